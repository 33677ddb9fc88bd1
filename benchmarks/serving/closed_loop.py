"""Closed-loop clients that complete their last requests.

Unlike with wrk, the work of every started request is counted, which matters if a request takes a second.
"""

import contextlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.client import TIMEOUT_S, AnswerError


@dataclass(frozen=True)
class Asked:
    """Latencies in seconds, and the time from the first request to the last answer."""

    latencies_s: list[float]
    wall_s: float


def ask_again(port: int, path: str, body: bytes, content_type: str, *, clients: int, seconds: float) -> Asked:
    """Send a request repeatedly from `clients` connections for some seconds.

    Raises:
        AnswerError: An answer is not 200.
    """
    started = time.perf_counter()

    def client(_: int) -> list[float]:
        found: list[float] = []
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
            while not found or time.perf_counter() < started + seconds:
                began = time.perf_counter()
                connection.request("POST", path, body, {"Content-Type": content_type})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise AnswerError(f"{path} answered {answer.status}: {content[:500]!r}")
                found.append(time.perf_counter() - began)
        return found

    with ThreadPoolExecutor(clients) as pool:
        latencies = [latency for found in pool.map(client, range(clients)) for latency in found]
    return Asked(latencies, time.perf_counter() - started)
