"""Memory and CPU time of /denoise by the megapixels of one request.

    python -m benchmarks.http large
    python -m benchmarks.http large --megapixels 4 25 100
    python -m benchmarks.http large --megapixels 1 --at-once 16 --max-batch-pixels 16777216

For every size, a new service of one worker with the shipped `photo-grey` denoises a grey PNG. Peak memory is VmHWM of
the process, next to its memory before the request. "Pixels" is the memory of the image itself: the bytes received, the
input pixels and the output pixels; for several images at once, their sum. `--max-batch-pixels` is the setting of the
service: the pixels of several pictures in one inference.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from benchmarks.client import TIMEOUT_S
from benchmarks.http.visits import positive
from benchmarks.page import table
from benchmarks.process import MIB
from benchmarks.samples import picture
from benchmarks.service import Service
from service.images.png import write_png

PATH = "/denoise?model=photo-grey&sigma=15"
LEAST_LIMIT = 25_000_000  # pixels; larger pictures raise it
HEAD = [
    "megapixels", "before, MiB", "peak, MiB", "pixels, MiB", "the rest, MiB", "CPU s", "CPU s per megapixel",
]  # fmt: skip


def measure(words: Sequence[str]) -> str:
    """Measure and return a table with a row per size."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.http large", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=positive, nargs="+", default=[1, 4, 16, 25], help="default 1 4 16 25")
    parser.add_argument("--at-once", type=positive, default=1, help="pictures sent at the same time (default 1)")
    parser.add_argument("--max-batch-pixels", type=positive, default=2**20, help="the service's setting")
    chosen = parser.parse_args(words)
    sizes = tqdm(chosen.megapixels, unit="size", leave=False)
    return table(HEAD, [row(megapixels, chosen.at_once, chosen.max_batch_pixels) for megapixels in sizes])


def row(megapixels: int, at_once: int, max_batch_pixels: int) -> list[str]:
    """Measure a size and return the cells of its row."""
    side = int((megapixels * 1e6) ** 0.5)
    file = write_png(picture(side, 1))
    limits = {
        "--max-pixels": max(LEAST_LIMIT, side * side),
        "--max-body-bytes": len(file),
        "--request-timeout-s": TIMEOUT_S,
        "--max-batch-pixels": max_batch_pixels,
    }
    with Service(*(word for flag, value in limits.items() for word in (flag, f"{value:.0f}"))) as service:
        before, started_s = service.process.resources.memory_mib, service.process.cpu_s
        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(lambda _: service.ask(PATH, file, "image/png"), range(at_once)))
        peak, cpu_s = service.process.resources.peak_mib, service.process.cpu_s - started_s
    pixels = sum(len(file) + len(answer) + 2 * side * side for answer in answers) / MIB
    return [
        f"{megapixels}", f"{before:.0f}", f"{peak:.0f}", f"{pixels:.0f}", f"{peak - before - pixels:.0f}",
        f"{cpu_s:.1f}", f"{cpu_s / megapixels / at_once:.2f}",
    ]  # fmt: skip
