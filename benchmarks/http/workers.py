"""One worker and two, on both cores together with wrk: medians over alternating rounds.

python -m benchmarks.http workers
"""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.http.visits import options, two_cores, visit
from benchmarks.samples import NOISY
from benchmarks.service import Service


def measure(words: Sequence[str]) -> str:
    """Measure and return the gain of a second worker."""
    chosen = options("workers", __doc__ or "", words)
    two_cores()
    cores = sorted(os.sched_getaffinity(0))[:2]
    rates: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory(prefix="hourglass-bench-") as folder:
        for _ in tqdm(range(chosen.rounds), desc="workers", unit="round", leave=False):
            for count, found in rates.items():
                with Service(workers=count, cores=cores) as service:
                    request = service.request(Path(folder), "/denoise?model=digits", NOISY, "image/png")
                    seen = visit(service, request, clients=chosen.clients, seconds=chosen.seconds, cores=cores)
                    found.append(seen.per_second)
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    return f"workers: 1 -> {one:.0f}/s, 2 -> {two:.0f}/s: {two / one:.2f}x"
