"""How the work of a request grows with the side of the image, and that of a batch with its images: CPU time.

    python -m benchmarks.growth

Sides: reading, running and writing a grey PNG through three convolutions of 16 channels, and what that is per
megapixel. Batches: the noisy digit through the shipped `digits`, everything that the worker thread does. Best of
several rounds, in which the candidates take turns. How it grows with clients and with workers:

    python -m benchmarks.serving --servers hourglass --clients 1 2 4 8 16 32 64 128 256
    python -m benchmarks.endpoints
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.codecs import by_pillow, cpu_seconds, picture
from benchmarks.images import network
from benchmarks.serving import MODELS, newest_graph
from benchmarks.stages import LIMITS, NOISY
from service.contract.manifest import Manifest
from service.models.loading import read_manifest
from service.models.session import Session
from service.tasks.denoise import Denoise
from tests.service.toymodels import publish_toy

SIDES = (28, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAGES = ("prepare", "run", "finish")
REPEATED_PIXELS = 500_000  # small work is repeated until it takes about as long as this many pixels


def sides() -> None:
    """Prints what an image of each side costs."""
    graph = network(1)
    with tempfile.TemporaryDirectory() as folder:
        manifest = read_manifest(publish_toy(Path(folder), side=None, channels=1, graphs={"denoise": graph}))
    session = Session(graph, provider="CPUExecutionProvider", threads=1)
    print(f"{'side':>9} {'prepare':>10} {'run':>10} {'finish':>10} {'together':>10}   ms; ms per megapixel")
    for side in SIDES:
        job = Denoise(by_pillow(picture(side, 1)), manifest, LIMITS, None)
        parts = _stages(session, [job])
        seconds = cpu_seconds(parts, max(1, REPEATED_PIXELS // side**2))
        total = sum(seconds.values())
        figures = " ".join(f"{seconds[stage] * 1e3:10.3f}" for stage in STAGES)
        print(f"{side:9} {figures} {total * 1e3:10.3f}   {total * 1e9 / side**2:10.1f}")


def batches(manifest: Manifest, session: Session) -> None:
    """Prints what an image costs in a batch of each size."""
    print(f"{'batch':>9} {'prepare':>10} {'run':>10} {'finish':>10} {'together':>10}   us per image")
    for size in BATCHES:
        parts = _stages(session, [Denoise(NOISY, manifest, LIMITS, None) for _ in range(size)])
        seconds = cpu_seconds(parts, max(1, 512 // size))
        figures = " ".join(f"{seconds[stage] / size * 1e6:10.1f}" for stage in STAGES)
        print(f"{size:9} {figures} {sum(seconds.values()) / size * 1e6:10.1f}")


def _stages(session: Session, jobs: list[Denoise]) -> dict[str, Callable[[], object]]:
    x = np.concatenate([job.prepare() for job in jobs])
    (x_hat,) = session.run(x)
    return {
        "prepare": lambda: np.concatenate([job.prepare() for job in jobs]),
        "run": lambda: session.run(x),
        "finish": lambda: [job.finish((x_hat[i : i + 1],)) for i, job in enumerate(jobs)],
    }


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    sides()
    graph = newest_graph(MODELS)
    batches(read_manifest(graph.parent), Session(graph.read_bytes(), provider="CPUExecutionProvider", threads=1))


if __name__ == "__main__":
    main()
