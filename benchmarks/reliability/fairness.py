"""Ask for small work beside clients that send large work all the time.

    python -m benchmarks.reliability [--write] fairness
    python -m benchmarks.reliability fairness --attackers 16 --seconds 30

Each attacker sends a picture of 25 megapixels (71 KiB) to `photo` again as soon as it is answered or refused. Beside
them, one client for each of the rows sends its request again when it is answered. All come from one address, so the
service cannot tell them apart by client. A row has the time alone, and beside the attackers the answers with 200 of
all, the median and the longest time. PASS means that all digits and half of the megapixels succeed within 10 s.
"""

import argparse
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from benchmarks.page import table
from benchmarks.reliability.bodies import MIB, Body, flat_png
from benchmarks.reliability.load import verdict
from benchmarks.reliability.watch import Watch, ask, cpu_s
from benchmarks.samples import NOISY
from benchmarks.service import Service

LARGE = ("/denoise?model=photo", Body(flat_png(5000, 5000, 3)))
MEGAPIXEL, DIGIT = "1200x1200 by `photo`", "a digit"
SMALL = {
    DIGIT: ("/denoise?model=digits", Body(NOISY)),
    "1200x1200 compressed": ("/compress", Body(flat_png(1200, 1200, 3))),
    "256x256 by `photo`": ("/denoise?model=photo", Body(flat_png(256, 256, 3))),
    MEGAPIXEL: ("/denoise?model=photo", Body(flat_png(1200, 1200, 3))),
}
PROMISED_S = 10.0
PAUSE_S = 0.1  # between an answer and the next request


@dataclass
class Answers:
    """Status and seconds of each answer to one client."""

    found: list[tuple[int, float]] = field(default_factory=list)

    def ask(self, port: int, path: str, body: Body) -> None:
        """Send a request and note its answer; status 0 if there was none."""
        started = time.perf_counter()
        try:
            status, _ = ask(port, "POST", path, body.content, body.headers)
        except OSError:
            status = 0
        self.found.append((status, time.perf_counter() - started))

    def share_within(self, seconds: float) -> float:
        """Return the share of requests that were answered with 200 within this time."""
        return sum(status == 200 and took <= seconds for status, took in self.found) / max(1, len(self.found))

    def cells(self) -> list[str]:
        """Return answers with 200 of all, median and longest time."""
        times = [took for _, took in self.found]
        good = sum(status == 200 for status, _ in self.found)
        return [f"{good} of {len(times)}", f"{statistics.median(times):.2f} s", f"{max(times):.2f} s"]


def measure(words: Sequence[str]) -> str:
    """Return the table and the verdict.

    Raises:
        BrokenPromiseError: Too few small requests succeeded.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability fairness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--attackers", type=int, default=8, metavar="N", help="clients with large work (default 8)")
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help="of the test (default 60)")
    chosen = parser.parse_args(words)
    with TemporaryDirectory() as folder, Service("--collections-url", f"sqlite:///{folder}/items.db") as service:
        alone = {name: Answers() for name in SMALL}
        for name, request in SMALL.items():
            for _ in range(2):  # the first lets the service measure the graph
                alone[name].ask(service.port, *request)
        beside, attacks, is_over = {name: Answers() for name in SMALL}, Answers(), threading.Event()

        def again(answers: Answers, request: tuple[str, Body]) -> Callable[[], None]:
            def work() -> None:
                while not is_over.wait(PAUSE_S):
                    answers.ask(service.port, *request)

            return work

        pid = service.process.popen.pid
        before_s = cpu_s(pid)
        threads = [threading.Thread(target=again(attacks, LARGE)) for _ in range(chosen.attackers)]
        threads += [threading.Thread(target=again(beside[name], request)) for name, request in SMALL.items()]
        with Watch(service.port, pid) as watch:
            for thread in threads:
                thread.start()
            time.sleep(chosen.seconds)
            is_over.set()
            for thread in threads:
                thread.join()
        took_s = cpu_s(pid) - before_s
    rows = [[name, f"{alone[name].found[-1][1]:.2f} s", *beside[name].cells()] for name in SMALL]
    counts = Counter(f"{status}" for status, _ in attacks.found)
    return verdict(
        "fairness",
        {
            "all digits": beside[DIGIT].share_within(PROMISED_S) == 1,
            "half of the megapixels": beside[MEGAPIXEL].share_within(PROMISED_S) >= 1 / 2,
        },
        f"{chosen.attackers} attackers for {chosen.seconds:.0f} s were answered "
        f"{', '.join(f'{count} x {status}' for status, count in counts.most_common())}; health took at most "
        f"{watch.stall_s * 1000:.0f} ms, memory was at most {watch.peak_bytes / MIB:.0f} MiB, and the service had "
        f"{took_s:.0f} s of CPU\n\n{table(['others', 'alone', 'answered', 'median', 'longest'], rows)}\n",
    )
