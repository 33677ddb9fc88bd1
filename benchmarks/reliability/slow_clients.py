"""Slow clients of all kinds, and whether the service closes their connections.

    python -m benchmarks.reliability slow-clients
    python -m benchmarks.reliability slow-clients --heads 500 --bodies 500 --idle 2000

Some clients drip headers, some drip bodies, some are silent. PASS means: each was closed within its timeout and a
second of grace, the dripped bodies with a 408, `/health/live` always answered within a second, and the service has as
many open files as before.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

from benchmarks.reliability.load import Client, percentile, slow_service, verdict, watched

HEADER_TIMEOUT_S, BODY_TIMEOUT_S, GRACE_S = 3.0, 6.0, 1.0
HEAD = b"POST /denoise HTTP/1.1\r\nX: "
BODY = b"POST /denoise HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def held(port: int, opening: bytes, drop: bytes) -> tuple[float, bytes]:
    """Return the seconds until the service closed the connection, and its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    writer.write(opening)

    async def drip() -> None:
        while drop:
            await asyncio.sleep(0.2)
            writer.write(drop)

    dripping = asyncio.create_task(drip())
    try:
        said = await reader.read()
    except ConnectionResetError:
        said = b""
    seconds = time.perf_counter() - started
    dripping.cancel()
    writer.close()
    return seconds, said


async def attempt(heads: int, bodies: int, idle: int) -> str:
    """Run the test and return its verdict."""
    limits = ("--header-timeout-s", str(HEADER_TIMEOUT_S), "--body-timeout-s", str(BODY_TIMEOUT_S))
    with slow_service(*limits) as (service, _):
        client, health_s, is_over = Client(service.port), [], asyncio.Event()
        await client.ask(HEALTH)
        before = service.process.resources.files

        async def ask_health() -> None:
            while not is_over.is_set():
                started = time.perf_counter()
                await client.ask(HEALTH)
                health_s.append(time.perf_counter() - started)
                await asyncio.sleep(0.05)

        asking = asyncio.create_task(ask_health())
        kinds = [(HEAD, b"a", heads), (BODY, b"a", bodies), (b"", b"", idle)]
        results = await asyncio.gather(
            *(asyncio.gather(*(held(service.port, *kind) for _ in range(count))) for *kind, count in kinds)
        )
        is_over.set()
        await asking
        await asyncio.sleep(1)
        after = service.process.resources.files
    head_s, body_s, idle_s = (max((seconds for seconds, _ in result), default=0.0) for result in results)
    refused = sum(said.startswith(b"HTTP/1.1 408 ") for _, said in results[1])
    return verdict(
        "slow clients",
        {
            "headers closed in time": head_s <= HEADER_TIMEOUT_S + GRACE_S,
            "bodies closed in time": body_s <= BODY_TIMEOUT_S + GRACE_S,
            "idle closed in time": idle_s <= HEADER_TIMEOUT_S + GRACE_S,
            "every body a 408": refused == bodies,
            "health within a second": max(health_s) <= 1.0,
            "files as before": after <= before + 1,
        },
        f"{heads} dripped headers closed within {head_s:.1f} s and {idle} idle within {idle_s:.1f} s (setting "
        f"{HEADER_TIMEOUT_S:g} s), {bodies} dripped bodies within {body_s:.1f} s (setting {BODY_TIMEOUT_S:g} s), "
        f"{refused} of them with a 408; health p95 {percentile(health_s, 0.95) * 1000:.0f} ms, slowest "
        f"{max(health_s) * 1000:.0f} ms; open files {before} before, {after} after",
    )


def measure(words: Sequence[str]) -> str:
    """Run the test and return its verdict.

    Raises:
        BrokenPromiseError: A guarantee was violated.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability slow-clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--heads", type=int, default=50, help="clients that drip headers (default 50)")
    parser.add_argument("--bodies", type=int, default=50, help="clients that drip bodies (default 50)")
    parser.add_argument("--idle", type=int, default=200, help="clients that say nothing (default 200)")
    options = parser.parse_args(words)
    work = attempt(options.heads, options.bodies, options.idle)
    return asyncio.run(watched(work, "slow clients", BODY_TIMEOUT_S + GRACE_S))
