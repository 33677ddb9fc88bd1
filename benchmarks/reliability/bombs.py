"""Sends small requests that cost much work, and measures their cost.

    python -m benchmarks.reliability [--write] bombs
    python -m benchmarks.reliability bombs form tensor
    git worktree add ../before 682abf7
    python -m benchmarks.reliability bombs --before ../before        (beside an older checkout)

Each request gets a new service with the models of its checkout, in a cgroup of 4 GiB if one can be created. A row has
the answer, the peak memory above that of an idle worker, the longest wait of another client for /health/live (in CPU
time of the service, to exclude other load on the machine), and the CPU time until the answer and after it. With
`--before`, a cell has the value of the older checkout, an arrow, and the present value. Arguments select requests by a
part of their name.
"""

import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import BenchmarkError, selected, selecting
from benchmarks.machine import ROOT
from benchmarks.memory_limit import memory_limit
from benchmarks.page import table
from benchmarks.reliability.bodies import MIB
from benchmarks.reliability.kinds import BOMBS, Bomb
from benchmarks.reliability.watch import TIMEOUT_S, Watch, ask, cpu_s, memory_bytes
from benchmarks.service import Service

QUIET_S, QUIET_CPU_S = 2.0, 0.2  # so long with so little CPU time: it is over
MOST_S = 60.0  # longer nobody waits for the end of one request
UNREAD_S = 5.0  # then a client that reads nothing leaves
LIMIT_BYTES = 4 * 2**30
HEAD = ["kind", "request", "size", "answer", "peak memory", "longest stall", "CPU until the answer", "CPU after it"]


@dataclass(frozen=True)
class Cost:
    """Response of a service to a request; a killed service has no times."""

    answer: str
    memory_bytes: int
    is_killed: bool
    stall_s: float
    until_s: float
    after_s: float
    is_cut_off: bool  # it still worked when we left

    @property
    def cells(self) -> list[str]:
        """Cells of the table."""
        memory = f"{max(0, self.memory_bytes) / MIB:.0f} MiB"
        if self.is_killed:
            return ["killed", memory, "-", "-", "-"]
        after = f"{'over ' if self.is_cut_off else ''}{max(0.0, self.after_s):.1f} s"
        return [self.answer, memory, f"{self.stall_s * 1000:.0f} ms", f"{self.until_s:.1f} s", after]


def cost_of(bomb: Bomb, checkout: Path) -> Cost:
    """Send a request to a service of a checkout and return its cost."""
    with contextlib.ExitStack() as stack:
        folder, prefix = stack.enter_context(TemporaryDirectory()), list[str]()
        with contextlib.suppress(BenchmarkError):  # without cgroups, the machine is the limit
            prefix = stack.enter_context(memory_limit(LIMIT_BYTES)).prefix
        flags = ("--collections-url", f"sqlite:///{folder}/items.db", "--request-timeout-s", "5", *bomb.flags)
        service = stack.enter_context(Service(*flags, prefix=prefix, checkout=checkout))
        for method, path, body in bomb.first:
            ask(service.port, method, path, body.content, body.headers)
        pid = service.process.popen.pid
        idle_bytes, before_s = memory_bytes(pid), cpu_s(pid)
        with Watch(service.port, pid) as watch:
            with ThreadPoolExecutor(bomb.at_once) as clients:
                answers = list(clients.map(lambda _: _send(service.port, bomb), range(bomb.at_once)))
            until_s = cpu_s(pid) - before_s
            is_cut_off = _wait_for_quiet(pid)
        after_s = cpu_s(pid) - before_s - until_s
        is_killed = service.process.popen.poll() is not None
    counts = Counter(answers)
    shown = ", ".join(f"{count} x {answer}" if bomb.at_once > 1 else answer for answer, count in counts.most_common())
    return Cost(shown, watch.peak_bytes - idle_bytes, is_killed, watch.stall_s, until_s, after_s, is_cut_off)


def _send(port: int, bomb: Bomb) -> str:
    body = bomb.body
    try:
        if not bomb.is_read:
            _leave_unread(port, bomb)
            return "not read"
        return _shown(*ask(port, bomb.method, bomb.path, body.content, body.headers))
    except TimeoutError:
        return f"left after {TIMEOUT_S:.0f} s"
    except OSError:
        return "none"


def _leave_unread(port: int, bomb: Bomb) -> None:
    """Send requests without a pause and read nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=UNREAD_S) as connection:
        started = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            connection.sendall(bomb.raw * bomb.pipelined)
        time.sleep(max(0.0, UNREAD_S - (time.perf_counter() - started)))


def _wait_for_quiet(pid: int) -> bool:
    """Wait until a process has nothing more to do, and return whether it still had after `MOST_S`."""
    last, quiet_since, end = cpu_s(pid), time.perf_counter(), time.perf_counter() + MOST_S
    while time.perf_counter() - quiet_since < QUIET_S:
        if time.perf_counter() > end:
            return True
        time.sleep(0.1)
        if (now := cpu_s(pid)) - last > QUIET_CPU_S:
            last, quiet_since = now, time.perf_counter()
    return False


def row_of(name: str, checkouts: Sequence[Path]) -> list[str]:
    """Send one request to a service of each checkout, and return the row."""
    bomb = BOMBS[name]()
    size = len(bomb.raw) * bomb.pipelined
    shown = f"{size / MIB:.0f} MiB" if size >= MIB else f"{size >> 10} KiB" if size >= 1024 else f"{size} bytes"
    cells = zip(*(cost_of(bomb, checkout).cells for checkout in checkouts), strict=True)
    return [bomb.kind, name, shown, *map(" → ".join, cells)]


def _shown(status: int, answer: bytes) -> str:
    if not status:
        return "none"
    if status < 400:
        return f"{status}, {len(answer) / MIB:.1f} MiB"
    try:
        return f"{status} {json.loads(answer).get('code', '')}".strip()
    except ValueError:
        return f"{status}"


def measure(words: Sequence[str]) -> str:
    """Return the table of all requests, or of the named ones."""
    parser = selecting("reliability bombs", __doc__, what="requests")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout whose service is asked first")
    chosen = parser.parse_args(words)
    names = selected(BOMBS, chosen.parts)
    checkouts = [chosen.before.resolve(), ROOT] if chosen.before else [ROOT]
    return table(HEAD, [row_of(name, checkouts) for name in names])
