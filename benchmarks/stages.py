"""What the stages of one small request cost: CPU microseconds, each stage alone and warm.

    python -m benchmarks.stages
    python -m training fit digits --models other export.precision=float32
    python -m benchmarks.stages models/digits/5 other/digits/1

For every model directory: the denoise graph per image in batches of 1, 16 and 64, on one thread; reading the noisy
digit and bringing it to the model (`prepare`); making the answer of the graph's output (`finish`), for /denoise and, on
a noisy and a clean digit, for /anomaly. Models and stages take turns, and the best of several rounds counts. In a
running service each stage costs more, since the others push it out of the processor's caches.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.codecs import cpu_seconds
from benchmarks.peers.environment import ROOT
from service.contract.manifest import Manifest
from service.limits import InputLimits
from service.models.loading import read_manifest
from service.models.session import Session
from service.tasks.anomaly.job import Anomaly
from service.tasks.denoise import Denoise

BATCHES = (1, 16, 64)
REPEATS = 20
SAMPLES = ROOT / "tests" / "data"
NOISY, CLEAN = ((SAMPLES / name).read_bytes() for name in ("digit_noisy.png", "digit.png"))
LIMITS = InputLimits(25_000_000, 256, 256)


def stages(directory: Path) -> dict[str, Callable[[], object]]:
    """Name to what runs it once; `run N` runs a whole batch."""
    manifest = read_manifest(directory.resolve())
    graphs = {task: _open(directory, manifest, task) for task in ("denoise", "anomaly")}
    job = Denoise(NOISY, manifest, LIMITS, None)
    x = job.prepare()
    found: dict[str, Callable[[], object]] = {
        f"run {size}": partial(graphs["denoise"].run, np.concatenate([x] * size)) for size in BATCHES
    }
    found["prepare"] = job.prepare
    found["finish denoise"] = partial(job.finish, graphs["denoise"].run(x))
    for name, png in (("noisy", NOISY), ("clean", CLEAN)):
        anomaly = Anomaly(png, manifest, LIMITS, None)
        found[f"finish anomaly, {name}"] = partial(anomaly.finish, graphs["anomaly"].run(anomaly.prepare()))
    return found


def _open(directory: Path, manifest: Manifest, task: str) -> Session:
    graph = next(graph for name, graph in manifest.tasks.items() if name == task)
    return Session((directory / graph.file).read_bytes(), provider="CPUExecutionProvider", threads=1)


def main() -> None:
    """Prints a column per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    newest = max((ROOT / "models" / "digits").iterdir(), key=lambda folder: int(folder.name))
    parser.add_argument("models", nargs="*", type=Path, default=[newest], help="directories (default: newest digits)")
    models: list[Path] = parser.parse_args().models
    parts = {(name, i): run for i, model in enumerate(models) for name, run in stages(model).items()}
    seconds = cpu_seconds(parts, REPEATS)
    print(f"{'us per image':24}" + "".join(f"{'/'.join(model.parts[-3:]):>24}" for model in models))
    for name in dict.fromkeys(name for name, _ in parts):
        images = int(name.removeprefix("run ")) if name.startswith("run ") else 1
        figures = "".join(f"{seconds[name, i] / images * 1e6:24.1f}" for i in range(len(models)))
        print(f"{name:24}{figures}")


if __name__ == "__main__":
    main()
