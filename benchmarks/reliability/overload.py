"""Overload by five times the capacity of the service: outcomes of accepted and of rejected requests.

    python -m benchmarks.reliability overload                 # half a minute
    python -m benchmarks.reliability overload --seconds 60

It starts a service with a toy model that takes some 10 ms per image, measures its capacity with a few clients, sends
five times that, and measures the capacity again. PASS means: every request got one complete answer, 200 or 503; goodput
stayed over 80 % of the capacity; 95 % of the accepted requests were answered within twice the time of a full queue;
95 % of the rejections came within 0.1 s; and afterwards capacity, files and memory are as before.
"""

import argparse
import asyncio
from collections.abc import Sequence

from benchmarks.reliability.load import Client, closed_loop, open_loop, percentile, slow_service, verdict, watched
from benchmarks.service import Service

QUEUE = 32  # images
FACTOR = 5


async def attempt(service: Service, request: bytes, seconds: float) -> str:
    """Run the test and return its verdict."""
    client = Client(service.port)
    expected = (await client.ask(request)).body
    before = await closed_loop(client, request, clients=8, seconds=seconds)
    capacity = len(before) / seconds
    client.close()
    await asyncio.sleep(1)
    had = service.process.resources

    flood = await open_loop(client, request, rate=FACTOR * capacity, seconds=seconds)
    client.close()
    await asyncio.sleep(1)
    has = service.process.resources

    after = await closed_loop(client, request, clients=8, seconds=seconds)
    client.close()
    accepted = [outcome for outcome in flood if outcome.status == 200]
    refused = [outcome.seconds for outcome in flood if outcome.status == 503]
    late, soon = percentile([o.seconds for o in accepted], 0.95), percentile(refused, 0.95)
    goodput, again, worth = len(accepted) / seconds, len(after) / seconds, QUEUE / capacity
    checks = {
        "one whole answer each": len(accepted) + len(refused) == len(flood)
        and all(outcome.body == expected for outcome in (*before, *accepted, *after)),
        "goodput over 80 %": goodput > 0.8 * capacity,
        "accepted within twice the queue": late < 2 * worth,
        "refused at once": soon < 0.1,
        "as before": again > 0.8 * capacity and has.files <= had.files and has.memory_mib < had.memory_mib + 50,
    }
    return verdict(
        "overload",
        checks,
        f"capacity {capacity:.0f}/s, sent {len(flood) / seconds:.0f}/s, goodput {goodput:.0f}/s "
        f"({goodput / capacity:.0%}); accepted p95 {late:.2f} s, a full queue takes {worth:.2f} s; "
        f"{len(refused)} refused, p95 {soon * 1000:.0f} ms; afterwards {again:.0f}/s; {had} -> {has}",
    )


def measure(words: Sequence[str]) -> str:
    """Run the test and return its verdict.

    Raises:
        BrokenPromiseError: A guarantee was violated.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the three phases (default %(default)s)")
    options = parser.parse_args(words)
    with slow_service("--max-queue-images", str(QUEUE)) as (service, request):
        work = attempt(service, request, options.seconds)
        return asyncio.run(watched(work, "overload", 3 * options.seconds + 2))
