"""Compare the throughput of small images with that of an older checkout.

    git worktree add ../before 682abf7
    python -m benchmarks.http before ../before
    python -m benchmarks.http before ../before --rounds 8 --seconds 5

One worker of each checkout serves its own models on one core, and wrk sends a noisy digit from another core. They take
turns: in each round, every request goes to both, and the next round begins with the other one. The table has medians
over the rounds, and the ratio after / before of each round's pair, as a median with its range. Ratios of CPU time per
request are valid on a busy machine, too.
"""

import contextlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.http.visits import Visit, option_parser, two_cores, visit
from benchmarks.machine import ROOT
from benchmarks.page import table
from benchmarks.samples import NOISY
from benchmarks.service import Service

PATHS = ("/denoise?model=digits", "/encode?model=digits")
WARM_UP_S = 2  # not counted
HEAD = ("requests/s before", "after", "ratio", "range", "CPU us before", "after", "ratio", "range")


def measure(words: Sequence[str]) -> str:
    """Measure both checkouts and return the table.

    Raises:
        MachineError: wrk is missing, or there is one core only.
        ServiceError: One of them does not start.
    """
    parser = option_parser("before", __doc__ or "")
    parser.add_argument("folder", type=Path, help="root of the older checkout")
    chosen = parser.parse_args(words)
    client_core, server_core = two_cores()
    checkouts = [chosen.folder.resolve(), ROOT]
    seen: dict[str, list[list[Visit]]] = {path: [[], []] for path in PATHS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hourglass-bench-")))
        services = [
            stack.enter_context(
                Service("--collections-url", f"sqlite:///{folder}/{number}.db", cores=server_core, checkout=checkout)
            )
            for number, checkout in enumerate(checkouts)
        ]
        requests = {path: [service.request(folder, path, NOISY, "image/png") for service in services] for path in PATHS}
        for service in services:
            service.process.pause()

        def visited(path: str, which: int, seconds: int) -> Visit:
            service = services[which]
            service.process.resume()
            found = visit(service, requests[path][which], clients=chosen.clients, seconds=seconds, cores=client_core)
            service.process.pause()
            return found

        for path in PATHS:
            for which in (0, 1):
                visited(path, which, WARM_UP_S)
        for number in tqdm(range(chosen.rounds), desc="before and after", unit="round", leave=False):
            for path in PATHS:
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    seen[path][which].append(visited(path, which, chosen.seconds))
    return table([f"{chosen.clients} clients", *HEAD], [row_of(path, *pairs) for path, pairs in seen.items()])


def row_of(path: str, before: Sequence[Visit], after: Sequence[Visit]) -> list[str]:
    """Return the row of a path: medians of both, and the ratio of each round's pair."""
    cells = [f"`{path}`"]
    for name in ("per_second", "cpu_us"):
        old, new = ([getattr(one, name) for one in visits] for visits in (before, after))
        ratios = [b / a for a, b in zip(old, new, strict=True)]
        cells += [f"{statistics.median(old):.0f}", f"{statistics.median(new):.0f}"]
        cells += [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"]
    return cells
