"""Stops a busy service with SIGTERM and counts what is lost.

    python -m benchmarks.sigterm_under_load
    python -m benchmarks.sigterm_under_load --rounds 20 --workers 2

In each round, clients ask a service as fast as it answers; after two seconds it gets SIGTERM. Each client goes on until
it is told to close its connection, and then tries once more on a new one, where it finds a 503 or a closed port. PASS
means: every request that reached the service got one whole answer, 200 with the right image or 503; and the process,
with its workers, ended with 0 within its grace period.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter

from benchmarks.load import Client, slow_service, verdict

CLIENTS = 16
GRACE_S = 20


async def one_round(workers: int, counts: Counter[str]) -> float:
    """Adds to `counts`; seconds from the signal to the end of the process."""
    with slow_service("--grace-s", str(GRACE_S), "--workers", str(workers)) as (process, request):
        expected = (await Client(process.port).ask(request)).body

        async def go_on() -> None:
            client, was_told = Client(process.port), False  # one connection each
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
        process.popen.send_signal(signal.SIGTERM)
        started = time.perf_counter()
        await asyncio.gather(*clients)
        code = await asyncio.to_thread(process.popen.wait, 60)
        counts["exit code 0" if code == 0 else "exit code not 0"] += 1
        return time.perf_counter() - started


async def measure(rounds: int, workers: int) -> int:
    """Runs all; the exit code."""
    counts: Counter[str] = Counter()
    slowest = max([await one_round(workers, counts) for _ in range(rounds)])
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


def main() -> int:
    """The exit code: 0 for PASS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service (default %(default)s)")
    options = parser.parse_args()
    return asyncio.run(measure(options.rounds, options.workers))


if __name__ == "__main__":
    sys.exit(main())
