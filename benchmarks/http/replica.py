"""Memory and throughput of one replica, and of a second worker, for docs/scaling.md.

    python -m benchmarks.http replica

A replica is `python -m service` with the shipped models on one core. Memory is PSS, in which shared pages are divided
among the processes that share them. wrk sends a noisy digit from another core. Two workers have both cores and share
them with wrk.
"""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import trange

from benchmarks.http.visits import options, two_cores, visit
from benchmarks.process import Process
from benchmarks.samples import NOISY
from benchmarks.service import Service

IDLE_S = 10.0


def measure(words: Sequence[str]) -> str:
    """Measure and return a line for one worker and one for two."""
    chosen = options("replica", __doc__ or "", words)
    client_core, server_core = two_cores()
    lines = []
    both = sorted(os.sched_getaffinity(0))[:2]
    for workers, served_on, sent_from in ((1, server_core, client_core), (2, both, both)):
        with (
            TemporaryDirectory(prefix="hourglass-bench-") as folder,
            Service(workers=workers, cores=served_on) as service,
        ):
            process = service.process
            start_s, memory, idle = process.cpu_s, process.own_mib, idle_share(process)
            request = service.request(Path(folder), "/denoise?model=digits", NOISY, "image/png")
            rates = [
                visit(service, request, clients=chosen.clients, seconds=chosen.seconds, cores=sent_from).per_second
                for _ in trange(1 + chosen.rounds, desc=f"{workers} worker(s)", unit="visit", leave=False)
            ]
            lines.append(
                f"{workers} worker(s): start {start_s:.1f} s of CPU, {memory:.0f} MiB of its own, idle "
                f"{idle * 100:.1f} % of a core; {statistics.median(rates[1:]):.0f} digits/s, then "
                f"{process.own_mib:.0f} MiB"
            )
    return "\n".join(lines)


def idle_share(process: Process) -> float:
    """Return the share of a core that an idle process uses."""
    before = process.cpu_s
    time.sleep(IDLE_S)
    return (process.cpu_s - before) / IDLE_S
