"""Overhead of metrics per request: CPU microseconds, each part alone and warm.

    python -m benchmarks.micro counting

`request` is an empty request with and without `service.http.instrument`, `batch` is counting a batch of one image.
In a running service both cost a little more, since other code evicts them from the caches.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.micro.case import Case, parser_of, show
from service.api.routes import ROUTERS
from service.http.budget import Budget
from service.http.instrument import Observing
from service.telemetry.counters import Meters, Spent

TIMES = 10_000


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser_of("counting", __doc__).parse_args(words)
    meters = Meters()
    observed = Observing(
        answer, routers=ROUTERS.values(), meters=meters, budget=Budget(max_bytes=1, max_seconds=1), is_logging=False
    )
    runs: dict[tuple[str, str], Callable[[], object]] = {
        ("request", "bare"): lambda: asyncio.run(requests(answer)),
        ("request", "counted"): lambda: asyncio.run(requests(observed)),
        ("batch", "counted"): lambda: batches(meters),
    }
    return show(
        Case("work", "us", runs, counts={"request": TIMES, "batch": TIMES}, remarks={"for counting": _difference})
    )


async def answer(_: Scope, __: Receive, send: Send) -> None:
    """Send an empty answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def requests(served: ASGIApp) -> None:
    """Make many requests."""

    async def nowhere(_: Message) -> None:
        pass

    async def nothing() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "path": "/denoise", "method": "POST", "headers": []}
    for _ in range(TIMES):
        await served(scope, nothing, nowhere)


def batches(meters: Meters) -> None:
    """Count many batches."""
    meter, spent = meters.graph("digits", 1, "denoise"), Spent(0.0, 0.0001, 0.0001, [(1, 0.0001)])
    for _ in range(TIMES):
        origins = [meter.came()]
        meter.waited(origins)
        meter.record(spent, origins)


def _difference(_: str, seconds: Mapping[str, float]) -> str:
    return f"{(seconds['counted'] - seconds.get('bare', 0.0)) * 1e6:.2f}"
