"""What a request pays for being counted: CPU microseconds, each part alone and warm.

    python -m benchmarks.counting

`request` is a request through `http.instrument` less the same one without it, `batch` what one batch of one image is
told to its meter. In a running service both cost a little more, since the rest pushes them out of the caches.
"""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.routes import ROUTERS
from service.http.instrument import Observing
from service.telemetry.counters import Meters, Spent

TIMES = 100_000
ROUNDS = 5


async def app(_: Scope, __: Receive, send: Send) -> None:
    """Answers nothing, at once."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def nowhere(_: Message) -> None:
    """Takes an answer."""


async def nothing() -> Message:
    """A body."""
    return {"type": "http.request"}


async def request_us(served: ASGIApp) -> float:
    """Microseconds of one request."""
    scope = {"type": "http", "path": "/denoise", "method": "POST", "headers": []}
    started = time.process_time()
    for _ in range(TIMES):
        await served(scope, nothing, nowhere)
    return (time.process_time() - started) / TIMES * 1e6


def batch_us(meters: Meters) -> float:
    """Microseconds of one batch."""
    meter, spent = meters.graph("digits", 1, "denoise"), Spent(0.0, 0.0001, 0.0001, [(1, 0.0001)])
    started = time.process_time()
    for _ in range(TIMES):
        origins = [meter.came()]
        meter.waited(origins)
        meter.record(spent, origins)
    return (time.process_time() - started) / TIMES * 1e6


def main() -> None:
    """Prints the best of several rounds."""
    meters = Meters()
    observed = Observing(app, routers=ROUTERS.values(), meters=meters, is_logging=False)
    bare = min(asyncio.run(request_us(app)) for _ in range(ROUNDS))
    request = min(asyncio.run(request_us(observed)) for _ in range(ROUNDS)) - bare
    batch = min(batch_us(meters) for _ in range(ROUNDS))
    print(f"request {request:.2f} us, batch {batch:.2f} us, together {request + batch:.2f} us")


if __name__ == "__main__":
    main()
