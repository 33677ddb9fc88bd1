"""An echo behind Ray Serve and behind uvicorn alone: the overhead of several processes without any work.

    python -m benchmarks.http ray

Ray is installed into build/bench at the first run. Both have both cores and share them with wrk: Ray Serve is many
processes.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import trange

from benchmarks.client import AnswerError, post
from benchmarks.commands import BenchmarkError
from benchmarks.http.replica import idle_share
from benchmarks.http.visits import Visit, options, two_cores
from benchmarks.machine import ROOT
from benchmarks.peers.environment import environment_python
from benchmarks.peers.wrk import load, write_request
from benchmarks.process import free_port, running
from benchmarks.samples import NOISY

PATIENCE_S = 120.0
SETTLE_S = 2.0


def measure(words: Sequence[str]) -> str:
    """Measure both and return a line for each, with their ratio."""
    chosen = options("ray", __doc__ or "", words)
    two_cores()
    with TemporaryDirectory(prefix="hourglass-bench-") as name:
        folder, ports = Path(name), (free_port(), free_port())
        (answer := folder / "digit.png").write_bytes(NOISY)
        python, script = environment_python("rayserve"), ROOT / "benchmarks" / "peers" / "rayserve.py"
        floor = [sys.executable, "-m", "benchmarks.peers.floor", str(ports[0]), str(answer)]
        bare, of_uvicorn = echo(folder, "uvicorn", floor, ports[0], chosen)
        served, of_ray = echo(folder, "rayserve", [str(python), str(script), str(ports[1])], ports[1], chosen)
    together = (
        f"Ray Serve: {bare.per_second / served.per_second:.0f} times fewer echoes/s, "
        f"{served.cpu_us / bare.cpu_us:.0f} times the CPU for each"
    )
    return "\n".join([of_uvicorn, of_ray, together])


def echo(folder: Path, name: str, command: list[str], port: int, chosen: argparse.Namespace) -> tuple[Visit, str]:
    """Measure a server that echoes the digit. Return its medians and a line about them."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    with running(name, command, cores=cores) as process:
        end = time.monotonic() + PATIENCE_S
        while not _answers(port):
            if time.monotonic() > end or process.popen.poll() is not None:
                raise BenchmarkError(f"{name} does not answer: {process.last_words()}")
            time.sleep(0.05)
        time.sleep(SETTLE_S)
        idle, memory = idle_share(process), process.own_mib
        url = f"http://127.0.0.1:{port}/"
        request = write_request(folder, name=name, url=url, content_type="image/png", body=NOISY)
        load(request, clients=chosen.clients, seconds=1, cores=cores)  # warm
        seen = []
        for _ in trange(chosen.rounds, desc=name, unit="visit", leave=False):
            before = process.cpu_s
            found = load(request, clients=chosen.clients, seconds=chosen.seconds, cores=cores)
            seen.append(Visit(found.per_second, (process.cpu_s - before) / found.requests * 1e6))
        middle = Visit(statistics.median(v.per_second for v in seen), statistics.median(v.cpu_us for v in seen))
        line = (
            f"{name}: {middle.per_second:.0f} echoes/s, {middle.cpu_us:.0f} us of CPU for each; {memory:.0f} MiB in "
            f"{len(process.pids)} processes, idle {idle * 100:.1f} % of a core"
        )
    return middle, line


def _answers(port: int) -> bool:
    try:
        post(port, "/", NOISY, "image/png")
    except (OSError, AnswerError):
        return False
    return True
