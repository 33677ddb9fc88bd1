"""What one replica costs and does, and what a second worker adds: for docs/scaling.md.

    python -m benchmarks.replica
    python -m benchmarks.replica --ray       beside it, an echo behind Ray Serve and behind uvicorn alone (installs Ray)

A replica is `python -m service` over the shipped models on one core. Memory is what it has for itself, with shared
pages split among those who share them (PSS). Load comes from wrk on another core: a noisy digit, 16 connections. Two
workers have both cores and share them with wrk, and so have the echoes: Ray Serve is many processes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.endpoints import DIGIT, service
from benchmarks.peers.environment import ROOT, environment_python
from benchmarks.peers.process import Process, free_port, running
from benchmarks.peers.wrk import LoadError, Request, load, write_request
from benchmarks.start import answer_of

MIB = 2**20
IDLE_S = 10.0
PATIENCE_S = 120.0


def own_bytes(pids: Sequence[int]) -> int:
    """Proportional memory of some processes (Linux)."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def wait_for(port: int, is_ready: Callable[[int], bool]) -> None:
    """Returns once it is.

    Raises:
        TimeoutError: It is not, after two minutes.
    """
    end = time.monotonic() + PATIENCE_S
    while not is_ready(port):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing answers on port {port} after {PATIENCE_S:g} s")
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    """Whether our service is."""
    return answer_of(port, "GET", "/health/ready") == 200


def is_answering(port: int) -> bool:
    """Whether an echo is there."""
    return answer_of(port, "POST", "/", b"x") == 200


def idle_share(process: Process) -> float:
    """The share of a core that it takes while nobody asks."""
    before = process.cpu_s
    time.sleep(IDLE_S)
    return (process.cpu_s - before) / IDLE_S


def rates(process: Process, request: Request, rounds: int, cores: Sequence[int]) -> tuple[float, float]:
    """Requests per second, and CPU microseconds of the server for each; medians."""
    load(request, clients=16, seconds=1, cores=cores)  # warm
    seen = []
    for _ in range(rounds):
        before = process.cpu_s
        found = load(request, clients=16, seconds=3, cores=cores)
        seen.append((found.per_second, (process.cpu_s - before) / found.requests * 1e6))
    per_second, cpu_us = (statistics.median(column) for column in zip(*seen, strict=True))
    return per_second, cpu_us


def replica(folder: Path, workers: int, rounds: int) -> None:
    """Prints what one process group costs and does."""
    port = free_port()
    cores = [1] if workers == 1 else [0, 1]
    with running("replica", service(port, workers), cores=cores) as process:
        wait_for(port, is_ready)
        time.sleep(1)  # other workers may be a little later
        start_s, memory, idle = process.cpu_s, own_bytes(process.pids), idle_share(process)
        request = write_request(
            folder,
            name="replica",
            url=f"http://127.0.0.1:{port}/denoise?model=digits",
            content_type="image/png",
            body=DIGIT,
        )
        per_second, _ = rates(process, request, rounds, [0] if workers == 1 else cores)
        print(
            f"{workers} worker(s): start {start_s:.1f} s of CPU, {memory / MIB:.0f} MiB of its own, idle "
            f"{idle * 100:.1f} % of a core; {per_second:.0f} digits/s, then {own_bytes(process.pids) / MIB:.0f} MiB"
        )


def echo(folder: Path, name: str, command: list[str], port: int, rounds: int) -> tuple[float, float]:
    """Requests per second, and CPU microseconds for each, of something that answers with the digit."""
    with running(name, command, cores=[0, 1]) as process:
        wait_for(port, is_answering)
        time.sleep(2)
        idle, memory = idle_share(process), own_bytes(process.pids)
        request = write_request(
            folder, name=name, url=f"http://127.0.0.1:{port}/", content_type="image/png", body=DIGIT
        )
        per_second, cpu_us = rates(process, request, rounds, [0, 1])
        print(
            f"{name}: {per_second:.0f} echoes/s, {cpu_us:.0f} us of CPU for each; {memory / MIB:.0f} MiB in "
            f"{len(process.pids)} processes, idle {idle * 100:.1f} % of a core"
        )
    return per_second, cpu_us


def ray(folder: Path, rounds: int) -> None:
    """Prints how the same echo does behind Ray Serve."""
    answer = folder / "digit.png"
    answer.write_bytes(DIGIT)
    port = free_port()
    bare = echo(
        folder, "uvicorn", [sys.executable, "-m", "benchmarks.peers.floor", str(port), str(answer)], port, rounds
    )
    port = free_port()
    script = str(ROOT / "benchmarks" / "peers" / "rayserve.py")
    try:
        served = echo(folder, "rayserve", [str(environment_python("rayserve")), script, str(port)], port, rounds)
    except (TimeoutError, LoadError) as error:
        print(f"rayserve: {error}")
        return
    print(
        f"Ray Serve: {bare[0] / served[0]:.0f} times fewer echoes/s, {served[1] / bare[1]:.0f} times the CPU for each"
    )


def main() -> None:
    """Prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of three seconds each (default 5)")
    parser.add_argument("--ray", action="store_true", help="compare with Ray Serve instead")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="hourglass-bench-") as folder:
        if chosen.ray:
            ray(Path(folder), chosen.rounds)
            return
        for workers in (1, 2):
            replica(Path(folder), workers, chosen.rounds)


if __name__ == "__main__":
    main()
