"""Load for the reliability benchmarks: a client that checks every answer, and a service with slow inferences."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tqdm import trange

from benchmarks.commands import BenchmarkError
from benchmarks.service import Service
from tests.service.slowmodel import flat_png, publish_slow

HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER_TIMEOUT_S = 120.0
T = TypeVar("T")


class BrokenPromiseError(BenchmarkError):
    """A guarantee was violated; the message names it, with the figures."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one request; status 0 if the answer was missing or incomplete."""

    status: int
    seconds: float
    body: bytes
    is_last: bool  # the service closes the connection after it


def post(body: bytes, path: str = "/denoise") -> bytes:
    """Return the bytes of a POST request."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Client:
    """A client with persistent connections, which opens another one if all are busy."""

    port: int
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def ask(self, request: bytes) -> Outcome:
        """Send one request and return its outcome.

        Raises:
            ConnectionRefusedError: The port is closed.
        """
        # The service closes a connection that was idle for some seconds; that is not an answer lost.
        while self.idle and self.idle[-1][0].at_eof():
            self.idle.pop()[1].close()
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        started = time.perf_counter()
        try:
            writer.write(request)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
            writer.close()
            return Outcome(0, time.perf_counter() - started, b"", is_last=True)
        seconds = time.perf_counter() - started
        is_last = b"connection: close" in head
        if is_last:
            writer.close()
        else:
            self.idle.append((reader, writer))
        return Outcome(int(head[9:12]), seconds, body, is_last)

    def close(self) -> None:
        """Close all idle connections."""
        for _, writer in self.idle:
            writer.close()
        self.idle.clear()


async def closed_loop(client: Client, request: bytes, *, clients: int, seconds: float) -> list[Outcome]:
    """Send a request from each of `clients` again as soon as its answer is there, and return the outcomes."""
    end = time.perf_counter() + seconds
    outcomes: list[Outcome] = []

    async def go_on() -> None:
        while time.perf_counter() < end:
            outcomes.append(await client.ask(request))

    await asyncio.gather(*(go_on() for _ in range(clients)))
    return outcomes


async def open_loop(client: Client, request: bytes, *, rate: float, seconds: float) -> list[Outcome]:
    """Send `rate` requests a second, answered or not, and return the outcomes."""
    started = time.perf_counter()
    tasks: list[asyncio.Task[Outcome]] = []
    while (passed := time.perf_counter() - started) < seconds:
        tasks += [asyncio.create_task(client.ask(request)) for _ in range(int(passed * rate) - len(tasks))]
        await asyncio.sleep(0.005)
    return list(await asyncio.gather(*tasks))


@contextlib.contextmanager
def slow_service(*flags: str, workers: int = 1) -> Iterator[tuple[Service, bytes]]:
    """Start a service with a model that takes some milliseconds per image; yield it with a request for it."""
    with TemporaryDirectory() as folder:
        publish_slow(Path(folder))
        with Service(*flags, models=Path(folder), workers=workers) as service:
            yield service, post(flat_png(200))


async def watched(work: Coroutine[object, object, T], what: str, seconds: float) -> T:
    """Await `work` with a progress bar over the expected seconds."""

    async def show() -> None:
        for _ in trange(round(seconds), desc=what, unit="s", leave=False):
            await asyncio.sleep(1)

    showing = asyncio.create_task(show())
    try:
        return await work
    finally:
        showing.cancel()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the quantile of values at `share`; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def verdict(name: str, checks: dict[str, bool], figures: str) -> str:
    """Return the line of a passed test.

    Raises:
        BrokenPromiseError: A check failed.
    """
    if failed := [check for check, is_kept in checks.items() if not is_kept]:
        raise BrokenPromiseError(f"FAIL {name}: {figures} | broken: {', '.join(failed)}")
    return f"PASS {name}: {figures}"
