"""Scaling of CPU time: of a request with the side of the image, and of a batch with its images.

    python -m benchmarks.micro growth

Sides: decoding a grey PNG, running three convolutions of 16 channels and encoding the result, in total and per
megapixel. Batches: all work of the worker thread for noisy digits with the shipped `digits`, per image. For scaling
with clients and workers see:

    python -m benchmarks.serving --servers hourglass --clients 1 2 4 8 16 32 64 128 256
    python -m benchmarks.http workers
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.micro.graphs import LIMITS, convolutions, open_graph, shipped
from benchmarks.samples import NOISY, picture, png_by_pillow
from benchmarks.service import newest
from service.images.inspect import ImageFile
from service.models.session import Session
from service.tasks.denoise import Denoise

SIDES = (28, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def measure(words: Sequence[str]) -> str:
    """Measure and return both tables."""
    parser_of("growth", __doc__).parse_args(words)
    manifest, session = convolutions(1)
    jobs = {
        f"{side}": [Denoise(ImageFile.of(png_by_pillow(picture(side, 1))), manifest, LIMITS, None)] for side in SIDES
    }
    runs = {(side, stage): run for side, alone in jobs.items() for stage, run in stages(session, alone).items()}
    together = {"together": _together, "together per megapixel": _per_megapixel}
    by_side = show(Case("side", "ms", runs, remarks=together))

    manifest = shipped(newest("digits"))
    session = open_graph(newest("digits"), "denoise")
    batches = {
        f"{size}": [Denoise(ImageFile.of(NOISY), manifest, LIMITS, None) for _ in range(size)] for size in BATCHES
    }
    runs = {(size, stage): run for size, batch in batches.items() for stage, run in stages(session, batch).items()}
    by_batch = show(
        Case("batch", "us", runs, counts={f"{size}": size for size in BATCHES}, remarks={"together": _together_us})
    )
    return f"{by_side}\n\n{by_batch}"


def stages(session: Session, jobs: Sequence[Denoise]) -> dict[str, Callable[[], object]]:
    """Return the three steps of the worker thread for a batch, by name."""
    x = np.concatenate([job.prepare() for job in jobs])
    (x_hat,) = session.run(x)
    return {
        "prepare": lambda: np.concatenate([job.prepare() for job in jobs]),
        "run": lambda: session.run(x),
        "finish": lambda: [job.finish((x_hat[i : i + 1],)) for i, job in enumerate(jobs)],
    }


def _together(_: str, seconds: Mapping[str, float]) -> str:
    return f"{sum(seconds.values()) * 1e3:.1f}"


def _together_us(_: str, seconds: Mapping[str, float]) -> str:
    return f"{sum(seconds.values()) * 1e6:.1f}"


def _per_megapixel(side: str, seconds: Mapping[str, float]) -> str:
    return f"{sum(seconds.values()) * 1e9 / int(side) ** 2:.1f}"
