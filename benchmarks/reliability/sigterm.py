"""Stops a busy service with SIGTERM and counts lost requests.

    python -m benchmarks.reliability sigterm
    python -m benchmarks.reliability sigterm --rounds 20 --workers 2

In each round, clients send requests in a closed loop; after two seconds the service gets SIGTERM. Each client continues
until the service closes its connection, then tries once more on a new one, which must be a 503 or a closed port. PASS
means: every request that reached the service got one complete answer, 200 with the right image or 503; and the process,
with its workers, ended with 0 within its grace period.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from tqdm import trange

from benchmarks.reliability.load import Client, slow_service, verdict

CLIENTS = 16
GRACE_S = 20


async def one_round(workers: int, counts: Counter[str]) -> float:
    """Run one round, add to `counts`, and return the seconds from the signal to the end of the process."""
    with slow_service("--grace-s", str(GRACE_S), workers=workers) as (service, request):
        expected = (await Client(service.port).ask(request)).body

        async def go_on() -> None:
            client, was_told = Client(service.port), False  # one connection each
            while True:
                try:
                    outcome = await client.ask(request)
                except ConnectionRefusedError:
                    counts["closed port"] += 1
                    return
                if outcome.status == 0 and was_told:  # the port closed before this connection was taken out of it
                    counts["closed port"] += 1
                    return
                is_whole = outcome.status == 503 or (outcome.status == 200 and outcome.body == expected)
                counts[str(outcome.status) if is_whole else "lost"] += 1
                if outcome.status == 503 or (outcome.is_last and not is_whole):
                    return
                was_told = outcome.is_last

        clients = [asyncio.create_task(go_on()) for _ in range(CLIENTS)]
        await asyncio.sleep(2)
        started = time.perf_counter()
        ending = asyncio.create_task(asyncio.to_thread(service.stop))
        await asyncio.gather(*clients)
        code = await ending
        counts["exit code 0" if code == 0 else "exit code not 0"] += 1
        return time.perf_counter() - started


async def attempt(rounds: int, workers: int) -> str:
    """Run the test and return its verdict."""
    counts: Counter[str] = Counter()
    slowest = max([await one_round(workers, counts) for _ in trange(rounds, desc="SIGTERM", unit="round", leave=False)])
    checks = {
        "nothing lost": counts["lost"] == 0,
        "exit code 0": counts["exit code not 0"] == 0,
        "within the grace period": slowest < GRACE_S,
    }
    return verdict(
        "sigterm under load",
        checks,
        f"{rounds} rounds, {workers} worker(s), {CLIENTS} clients: {counts['200']} answered, {counts['503']} refused, "
        f"{counts['closed port']} found the port closed, {counts['lost']} lost; slowest end after {slowest:.1f} s",
    )


def measure(words: Sequence[str]) -> str:
    """Run the test and return its verdict.

    Raises:
        BrokenPromiseError: A guarantee was violated.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability sigterm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service (default %(default)s)")
    options = parser.parse_args(words)
    return asyncio.run(attempt(options.rounds, options.workers))
