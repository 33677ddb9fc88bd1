"""A soak test of ten minutes with mixed load, to detect leaks, slowdowns and failures.

    python -m benchmarks.reliability soak
    python -m benchmarks.reliability soak --minutes 600

The service gets concurrently: good requests, bursts over its capacity, broken images, clients that disconnect while
their work is queued, and requests for /health/live ten times a second. PASS means: all answers are 200 with the right
image, 422 for a broken image or 503; every health check was answered within a second; and at the end, files and threads
are as after the first tenth, memory within 50 MiB of it, and the service ends with 0.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.reliability.load import HEALTH, Client, Outcome, open_loop, post, slow_service, verdict, watched
from benchmarks.service import Service

QUEUE = 32  # images


class Soak:
    """Shared state of the clients: the deadline and the outcomes."""

    def __init__(self, port: int, request: bytes, expected: bytes, seconds: float) -> None:
        self.port, self.request, self.expected = port, request, expected
        self.end = time.perf_counter() + seconds
        self.counts: Counter[str] = Counter()
        self.health: list[float] = []

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self.end

    async def ask_well(self) -> None:
        client = Client(self.port)
        while not self.is_over:
            self._count(await client.ask(self.request))
        client.close()

    async def ask_too_much(self) -> None:
        while not self.is_over:
            client = Client(self.port)
            for outcome in await open_loop(client, self.request, rate=400, seconds=1):
                self._count(outcome)
            client.close()
            await asyncio.sleep(3)

    async def send_broken_images(self) -> None:
        client = Client(self.port)
        while not self.is_over:
            outcome = await client.ask(post(b"\x89PNG\r\n\x1a\n" + bytes(100)))
            self.counts["broken" if outcome.status in {422, 503} else f"broken image: {outcome.status}"] += 1
            await asyncio.sleep(0.05)
        client.close()

    async def leave_early(self) -> None:
        while not self.is_over:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.request)
            await asyncio.sleep(0.02)
            writer.transport.abort()
            self.counts["left"] += 1
            await asyncio.sleep(0.1)

    async def look_at_health(self) -> None:
        client = Client(self.port)
        while not self.is_over:
            outcome = await client.ask(HEALTH)
            self.health.append(outcome.seconds)
            self.counts["health" if outcome.status == 200 else f"health: {outcome.status}"] += 1
            await asyncio.sleep(0.1)
        client.close()

    def _count(self, outcome: Outcome) -> None:
        status, body = outcome.status, outcome.body
        is_right = status == 503 or (status == 200 and body == self.expected)
        self.counts[str(status) if is_right else f"wrong answer: {status}"] += 1


async def attempt(service: Service, request: bytes, minutes: float) -> str:
    """Run the test and return its verdict."""
    seconds = 60 * minutes
    expected = (await Client(service.port).ask(request)).body

    async def run(for_seconds: float) -> Soak:
        soak = Soak(service.port, request, expected, for_seconds)
        parts = (
            soak.ask_well,
            soak.ask_well,
            soak.ask_too_much,
            soak.send_broken_images,
            soak.leave_early,
            soak.look_at_health,
        )
        await asyncio.gather(*(part() for part in parts))
        await asyncio.sleep(1)
        return soak

    first = await run(seconds / 10)
    had = service.process.resources
    rest = await run(seconds * 9 / 10)
    has = service.process.resources
    code = await asyncio.to_thread(service.stop)
    counts = first.counts + rest.counts
    slowest = max(first.health + rest.health)
    checks = {
        "no other answer": set(counts) <= {"200", "503", "broken", "left", "health"},
        "health within a second": slowest < 1,
        "nothing grew": has.files <= had.files and has.threads <= had.threads and has.memory_mib < had.memory_mib + 50,
        "exit code 0": code == 0,
    }
    seen = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    return verdict("soak", checks, f"{minutes:g} min: {seen}; slowest health {slowest * 1000:.0f} ms; {had} -> {has}")


def measure(words: Sequence[str]) -> str:
    """Run the test and return its verdict.

    Raises:
        BrokenPromiseError: A guarantee was violated.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default %(default)g)")
    options = parser.parse_args(words)
    with slow_service("--max-queue-images", str(QUEUE)) as (service, request):
        return asyncio.run(watched(attempt(service, request, options.minutes), "soak", 60 * options.minutes))
