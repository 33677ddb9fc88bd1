"""The service with a container's CPU quota: half a core, one and two, each with one worker and with two.

    python -m benchmarks.http quotas             (needs root: it makes a cgroup)

wrk sends digits in a closed loop. "Throttled" is the share of the quota's periods (100 ms) in which the service was
throttled. The plan is that of `/health/ready`. Start is the time from the process start until ready.
"""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from tqdm import tqdm

from benchmarks.client import status_and_body
from benchmarks.http.visits import options, two_cores
from benchmarks.page import table
from benchmarks.peers.wrk import load
from benchmarks.quota import cpu_quota
from benchmarks.samples import NOISY
from benchmarks.service import Service

QUOTAS = (0.5, 1.0, 2.0)
WORKERS = (1, 2)
HEAD = [
    "quota, cores", "workers", "the service sees", "start, s", "requests/s", "p50, ms", "p99, ms", "CPU us per request",
    "throttled",
]  # fmt: skip


def measure(words: Sequence[str]) -> str:
    """Measure and return a table with a row for each quota and number of workers."""
    chosen = options("quotas", __doc__ or "", words)
    two_cores()
    cores = sorted(os.sched_getaffinity(0))[:2]
    rows = []
    pairs = [(quota, workers) for quota in QUOTAS for workers in WORKERS]
    for quota, workers in tqdm(pairs, desc="quotas", unit="service", leave=False):
        with (
            TemporaryDirectory(prefix="hourglass-bench-") as folder,
            cpu_quota(quota) as limit,
            Service(workers=workers, cores=cores, prefix=limit.prefix) as service,
        ):
            request = service.request(Path(folder), "/denoise?model=digits", NOISY, "image/png")
            load(request, clients=chosen.clients, seconds=1, cores=cores)  # warm
            before_s, found = service.process.cpu_s, []
            for _ in range(chosen.rounds):
                found.append(load(request, clients=chosen.clients, seconds=chosen.seconds, cores=cores))
            cpu_us = (service.process.cpu_s - before_s) / sum(one.requests for one in found) * 1e6
            ready = orjson.loads(status_and_body(service.port, "GET", "/health/ready")[1])
            per_second, p50, p99 = (
                statistics.median(getattr(one, field) for one in found) for field in ("per_second", "p50_ms", "p99_ms")
            )
            rows.append([
                f"{quota:g}", f"{workers}", f"{ready['cores']:g}", f"{service.ready_s:.1f}", f"{per_second:.0f}",
                f"{p50:.1f}", f"{p99:.1f}", f"{cpu_us:.0f}", f"{limit.throttled_share:.0%}",
            ])  # fmt: skip
    return table(HEAD, rows)
