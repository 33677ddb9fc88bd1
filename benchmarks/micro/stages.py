"""CPU microseconds of the stages of one small request, each stage alone and warm.

    python -m benchmarks.micro stages
    python -m training fit digits --models other export.precision=float32
    python -m benchmarks.micro stages models/digits/5 other/digits/1

For every model directory: the denoise graph per image in batches of 1, 16 and 64, on one thread; decoding and resizing
the noisy digit (`prepare`); making the answer from the graph's output (`finish`), for /denoise and, with a noisy and a
clean digit, for /anomaly. In a running service each stage costs more, since the others evict it from the caches.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.micro.graphs import LIMITS, open_graph, shipped
from benchmarks.samples import CLEAN, NOISY
from benchmarks.service import newest
from service.images.inspect import ImageFile
from service.tasks.anomaly.job import Anomaly
from service.tasks.denoise import Denoise

BATCHES = {f"run {size}": size for size in (1, 16, 64)}


def measure(words: Sequence[str]) -> str:
    """Measure and return a table with a column per model."""
    parser = parser_of("stages", __doc__)
    parser.add_argument("models", nargs="*", type=Path, help="model directories (default: the newest digits)")
    models: list[Path] = parser.parse_args(words).models or [newest("digits")]
    runs = {(name, "/".join(model.parts[-3:])): run for model in models for name, run in stages(model).items()}
    return show(Case("stage", "us", runs, counts=BATCHES))


def stages(directory: Path) -> dict[str, Callable[[], object]]:
    """Return a function for each stage by name; `run N` runs a whole batch."""
    manifest, denoise, anomaly = shipped(directory), open_graph(directory, "denoise"), open_graph(directory, "anomaly")
    job = Denoise(ImageFile.of(NOISY), manifest, LIMITS, None)
    x = job.prepare()
    found: dict[str, Callable[[], object]] = {
        name: partial(denoise.run, np.concatenate([x] * size)) for name, size in BATCHES.items()
    }
    found["prepare"] = job.prepare
    found["finish denoise"] = partial(job.finish, denoise.run(x))
    for name, png in (("noisy", NOISY), ("clean", CLEAN)):
        look = Anomaly(ImageFile.of(png), manifest, LIMITS, None)
        found[f"finish anomaly, {name}"] = partial(look.finish, anomaly.run(look.prepare()))
    return found
