"""Time until the service is ready, and memory of a worker.

    python -m benchmarks.start
    python -m benchmarks.start --rounds 9

Each round starts the service with the shipped models and polls /health/ready until it is 200; then, for comparison,
it starts a bare Python that imports the libraries of the service and ends. The line has medians. Memory is resident, of
the worker process, when it is ready and again after a thousand requests.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from tqdm import trange

from benchmarks.commands import report
from benchmarks.samples import NOISY
from benchmarks.service import Service

LIBRARIES = "import fastapi, numpy, onnxruntime, PIL.Image, pydantic, uvicorn"
REQUESTS = 1000


def main(words: Sequence[str] | None = None) -> int:
    """Print the medians and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="starts (default 5)")
    parser.add_argument("--write", action="store_true", help="also between the markers of docs/performance.md")
    chosen = parser.parse_args(words)
    marker = "start" if chosen.write else None
    return report(lambda: measure(chosen.rounds), marker=marker, command=f"start --rounds {chosen.rounds}")


def measure(rounds: int) -> str:
    """Start the service `rounds` times and return a line with medians."""
    found = [(*one_start(), libraries_s()) for _ in trange(rounds, desc="starts", unit="start", leave=False)]
    seconds, cpu_s, before, after, bare_s = (statistics.median(values) for values in zip(*found, strict=True))
    return (
        f"ready after {seconds:.2f} s ({cpu_s:.2f} s of CPU), importing the libraries alone takes {bare_s:.2f} s; "
        f"resident memory {before:.0f} MiB, after {REQUESTS} requests {after:.0f} MiB"
    )


def one_start() -> tuple[float, float, float, float]:
    """Start the service once. Return seconds and CPU seconds until ready, and MiB then and after the requests."""
    with Service() as service:
        cpu_s, before = service.process.cpu_s, service.process.resources.memory_mib
        for _ in range(REQUESTS):
            service.ask("/denoise?model=digits", NOISY, "image/png")
        return service.ready_s, cpu_s, before, service.process.resources.memory_mib


def libraries_s() -> float:
    """Return the seconds of a Python process that only imports the libraries."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
