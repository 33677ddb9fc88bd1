"""Two and four replicas behind HAProxy: how it shares requests of mixed costs, and where they saturate.

    python -m benchmarks.http replicas           (needs HAProxy: apt-get install haproxy)

The work is mixed: of ten requests, nine are digits for /denoise and one is a photograph of a hazelnut for /anomaly,
which costs a hundred times as much. They arrive at random (Poisson) in an open loop. The first table shares 70 % of the
predicted rate in turns (`roundrobin`) and by least connections (`leastconn`). The second one sends 1.5 times that rate
to replicas with short queues, where a 503 goes to the client, or first to another replica (`retry-on 503`). The rate is
predicted as in docs/scaling.md, from the CPU time of each kind of request alone.

All replicas share one core, and HAProxy and the clients another. More replicas are therefore not faster here.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.client import post as post_once
from benchmarks.http.visits import MachineError, options, two_cores
from benchmarks.page import table
from benchmarks.process import free_port, running
from benchmarks.reliability.load import Client, Outcome, percentile, post
from benchmarks.samples import NOISY
from benchmarks.service import POLL_S, START_TIMEOUT_S, Service
from benchmarks.serving.beside_bare import hazelnut

COUNTS = (2, 4)
SHARE = 0.7  # of the predicted rate, where balancing is compared
OVERLOAD = 1.5  # of the predicted rate, where replicas refuse
QUEUE = 8  # images of a replica, where it shall refuse
CHEAP = 9  # of ten requests
WARM = 20  # requests before the CPU time of one kind is measured, and as many while it is

# Whether a 503 goes to another replica -> lines of HAProxy's backend.
RETRIES = {"no": ["retries 0"], "yes": ["retry-on 503 conn-failure", "retries 2", "option redispatch 1"]}
CHEAP_PATH, DEAR_PATH = "/denoise?model=digits", "/anomaly?model=hazelnut"


def measure(words: Sequence[str]) -> str:
    """Measure and return two tables and the rates.

    Raises:
        MachineError: HAProxy or the second core is missing.
    """
    chosen = options("replicas", __doc__ or "", words)
    rounds = {"rounds": chosen.rounds, "seconds": chosen.seconds}
    client_core, server_core = two_cores()
    if not shutil.which("haproxy"):
        raise MachineError("HAProxy is missing; install it with: apt-get install haproxy")
    os.sched_setaffinity(0, client_core)  # this process is the clients
    dear = hazelnut(256, 256, "JPEG")
    with replicas(1, server_core) as (one,):
        cheap_s, dear_s = cost_s(one, CHEAP_PATH, NOISY), cost_s(one, DEAR_PATH, dear)
    predicted = 10 / (CHEAP * cheap_s + (10 - CHEAP) * dear_s)  # requests per second of one core
    requests = [post(NOISY, CHEAP_PATH)] * CHEAP + [post(dear, DEAR_PATH)] * (10 - CHEAP)
    balanced, refused = [], []
    for count in COUNTS:
        with replicas(count, server_core) as services:
            for way in ("roundrobin", "leastconn"):
                backend = [f"balance {way}"]
                outcomes = sent(services, backend, requests, rate=SHARE * predicted, **rounds)
                times = [outcome.seconds * 1e3 for outcome in outcomes if outcome.status == 200]
                tail = [f"{percentile(times, share):.0f}" for share in (0.5, 0.95, 0.99)]
                balanced.append([f"{count}, {way}", f"{len(outcomes)}", *tail])
        with replicas(count, server_core, "--max-queue-images", str(QUEUE)) as services:
            for name, lines in RETRIES.items():
                backend = ["balance leastconn", *lines]
                outcomes = sent(services, backend, requests, rate=OVERLOAD * predicted, **rounds)
                good = sum(outcome.status == 200 for outcome in outcomes)
                rate = good / (chosen.rounds * chosen.seconds)
                refused.append([
                    f"{count}, {name}", f"{len(outcomes)}", f"{1 - good / len(outcomes):.0%}", f"{rate:.0f}",
                    f"{rate / predicted:.2f}",
                ])  # fmt: skip
    costs = (
        f"Alone, a digit takes {cheap_s * 1e3:.2f} ms of CPU and a hazelnut {dear_s * 1e3:.1f} ms: "
        f"{predicted:.0f} mixed requests/s of one core are predicted."
    )
    return "\n\n".join(
        [
            costs,
            table(["replicas, balance", "requests", "p50, ms", "p95, ms", "p99, ms"], balanced),
            table(["replicas, 503 retried elsewhere", "requests", "503", "answered/s", "of the prediction"], refused),
        ]
    )


def cost_s(service: Service, path: str, picture: bytes) -> float:
    """Return the CPU seconds of one request of a kind, asked one after another."""
    for counted in (False, True):
        before_s = service.process.cpu_s
        many = WARM * (1 if path == DEAR_PATH or not counted else 50)  # CPU time is counted in hundredths of a second
        for _ in range(many):
            post_once(service.port, path, picture, "application/octet-stream")
    return (service.process.cpu_s - before_s) / many


def sent(
    services: Sequence[Service],
    lines: Sequence[str],
    requests: Sequence[bytes],
    *,
    rate: float,
    rounds: int,
    seconds: int,
) -> list[Outcome]:
    """Send random ones of `requests` at random times through HAProxy and return the outcomes of all rounds."""
    with haproxy([service.port for service in services], lines) as port:
        return [
            outcome
            for seed in range(rounds)
            for outcome in asyncio.run(poisson(port, requests, rate, seconds, np.random.default_rng(seed)))
        ]


async def poisson(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, rng: np.random.Generator
) -> list[Outcome]:
    """Send `rate` requests per second at independent times and return the outcomes."""
    client, loop = Client(port), asyncio.get_running_loop()
    times = np.cumsum(rng.exponential(1 / rate, round(rate * seconds)))
    picks = rng.integers(len(requests), size=len(times))
    began = loop.time()
    tasks = []
    for at, pick in zip(times, picks, strict=True):
        await asyncio.sleep(max(0.0, began + at - loop.time()))
        tasks.append(asyncio.create_task(client.ask(requests[pick])))
    outcomes = list(await asyncio.gather(*tasks))
    client.close()
    return outcomes


@contextlib.contextmanager
def replicas(count: int, cores: Sequence[int], *flags: str) -> Iterator[tuple[Service, ...]]:
    """Run services of one worker each on the same cores for the block."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(Service(*flags, cores=cores)) for _ in range(count))


@contextlib.contextmanager
def haproxy(ports: Sequence[int], lines: Sequence[str]) -> Iterator[int]:
    """Run HAProxy in front of some ports for the block, with lines of its backend, and yield its port."""
    port = free_port()
    servers = [f"server s{i} 127.0.0.1:{backend}" for i, backend in enumerate(ports)]
    sections = {
        "defaults": ["mode http", "timeout connect 5s", "timeout client 120s", "timeout server 120s"],
        "frontend front": [f"bind 127.0.0.1:{port}", "default_backend replicas"],
        "backend replicas": [*lines, *servers],
    }
    text = "".join(f"{head}\n" + "".join(f"    {line}\n" for line in body) for head, body in sections.items())
    with TemporaryDirectory(prefix="hourglass-bench-") as folder:
        (config := Path(folder) / "haproxy.cfg").write_text(text)
        subprocess.run(["haproxy", "-c", "-q", "-f", str(config)], check=True)
        with running("haproxy", ["haproxy", "-db", "-f", str(config)], cores=sorted(os.sched_getaffinity(0))):
            end = time.monotonic() + START_TIMEOUT_S
            while not _listens(port) and time.monotonic() < end:
                time.sleep(POLL_S)
            yield port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
