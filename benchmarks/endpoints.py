"""The service's own ways in and out beside each other, and one worker beside two.

    python -m benchmarks.endpoints
    python -m benchmarks.endpoints --clients 1 --rounds 9

Over the shipped model `digits`: the same noisy digit as a raw PNG, as a form, and as an NPY array to /denoise, and as a
PNG to /encode and /anomaly, where noise is all anomalies; and a clean digit, where nothing is, to /anomaly. One worker
on one core, wrk on another; every round visits all. Then the raw PNG again with one worker and with two, this time with
both cores for everybody, wrk too. The table has medians over the rounds.
"""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.peers.catalogue import Body, form, raw
from benchmarks.peers.environment import ROOT
from benchmarks.peers.process import Process, free_port, running
from benchmarks.peers.wrk import Request, load, write_request
from benchmarks.start import answer_of

DIGIT, CLEAN = ((ROOT / "tests" / "data" / name).read_bytes() for name in ("digit_noisy.png", "digit.png"))


def npy(png: bytes) -> Body:
    """The picture as an array of bytes."""
    file = io.BytesIO()
    np.save(file, np.asarray(Image.open(io.BytesIO(png)).convert("L")))
    return Body(file.getvalue(), "application/x-npy")


WAYS: dict[str, tuple[str, Callable[[bytes], Body]]] = {
    "/denoise, PNG": ("/denoise?model=digits", raw),
    "/denoise, form": ("/denoise?model=digits", lambda png: form("file", png)),
    "/denoise, NPY": ("/denoise?model=digits", npy),
    "/encode, PNG": ("/encode", raw),
    "/anomaly, PNG": ("/anomaly", raw),
    "/anomaly, clean": ("/anomaly", lambda _: raw(CLEAN)),
}


def wait_until_ready(port: int) -> None:
    """Returns once the service says so."""
    while answer_of(port, "GET", "/health/ready") != 200:
        time.sleep(0.05)


def service(port: int, workers: int) -> list[str]:
    """The command."""
    return [
        *(sys.executable, "-m", "service", "--port", str(port), "--device", "cpu", "--workers", str(workers)),
        *("--models-dir", str(ROOT / "models")),
    ]


def visit(process: Process, request: Request, clients: int, seconds: int, cores: Sequence[int]) -> tuple[float, float]:
    """Requests per second, and CPU microseconds of the service for each."""
    before = process.cpu_s
    seen = load(request, clients=clients, seconds=seconds, cores=cores)
    return seen.per_second, (process.cpu_s - before) / seen.requests * 1e6


def ways(folder: Path, clients: int, rounds: int, seconds: int) -> None:
    """Prints how the ways compare."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    port = free_port()
    with running("endpoints", service(port, 1), cores=[1]) as process:
        wait_until_ready(port)
        requests = {}
        for number, (name, (path, make)) in enumerate(WAYS.items()):
            body, url = make(DIGIT), f"http://127.0.0.1:{port}{path}"
            requests[name] = write_request(
                folder, name=str(number), url=url, content_type=body.content_type, body=body.content
            )
        for _ in tqdm(range(rounds), desc="ways", leave=False):
            for name, request in requests.items():
                seen[name].append(visit(process, request, clients, seconds, [0]))
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seen.items()}
    first = middle["/denoise, PNG"]
    print(f"{clients} clients        requests/s  CPU us/request   of a PNG's CPU")
    for name, (per_second, cpu_us) in middle.items():
        print(f"  {name:16} {per_second:10.0f} {cpu_us:15.0f} {cpu_us / first[1]:15.2f}x")


def workers(folder: Path, clients: int, rounds: int, seconds: int) -> None:
    """Prints what a second worker brings."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in tqdm(range(rounds), desc="workers", leave=False):
        for count, found in rates.items():
            port = free_port()
            with running("endpoints", service(port, count), cores=[0, 1]) as process:
                wait_until_ready(port)
                time.sleep(1)  # the second worker may be a little later
                url = f"http://127.0.0.1:{port}/denoise?model=digits"
                request = write_request(folder, name="workers", url=url, content_type="image/png", body=DIGIT)
                found.append(visit(process, request, clients, seconds, [0, 1])[0])
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    print(f"workers: 1 -> {one:.0f}/s, 2 -> {two:.0f}/s: {two / one:.2f}x")


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16, help="connections (default 16)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each visit (default 3)")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="hourglass-bench-") as folder:
        ways(Path(folder), chosen.clients, chosen.rounds, chosen.seconds)
        workers(Path(folder), chosen.clients, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
