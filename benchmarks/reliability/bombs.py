"""Sends small requests that cost much work, and measures their cost.

    python -m benchmarks.reliability [--write] bombs
    python -m benchmarks.reliability bombs form tensor
    python -m benchmarks.reliability bombs --before ../hourglass-682abf7     (beside an older checkout)

Each kind gets a new service with the shipped models, in a cgroup of 4 GiB if one can be created. A row has the answer,
the peak memory above that of an idle worker, the longest wait of another client for /health/live (in CPU time of the
service, to exclude other load on the machine), the CPU time until the answer, and the CPU time after it. Arguments
select kinds by a part of their name.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import BenchmarkError
from benchmarks.memory_limit import memory_limit
from benchmarks.page import table
from benchmarks.reliability.bodies import FILE_CAP, JSON, JSON_CAP, MIB, RAW, Body, flat_png, form, repeated, tensor
from benchmarks.reliability.watch import Watch, ask, cpu_s, memory_bytes
from benchmarks.service import Service

QUIET_S, QUIET_CPU_S = 2.0, 0.2  # so long with so little CPU time: it is over
MOST_S = 120.0  # longer nobody waits for the end of one kind
LIMIT_BYTES = 4 * 2**30
HEAD = ["request", "body", "answer", "memory", "longest stall", "CPU until the answer", "CPU after it"]

# name -> path and body
KINDS: dict[str, Callable[[], tuple[str, Body]]] = {
    "a long string among the numbers of `/v2`": lambda: (
        "/v2/models/digits.denoise/infer",
        Body(tensor(b'["' + b"a" * 100_000 + b'"' + b",0" * 10_000 + b"]", (1, 1, 28, 28)), JSON),
    ),
    "a tensor of two megapixels": lambda: (
        "/v2/models/photo-x2.enhance/infer",
        Body(tensor(b"[" + b"0," * 1_999_999 + b"0]", (1, 1, 2000, 1000)), JSON),
    ),
    "32 MiB of lists for `/generate`": lambda: (
        "/generate?model=digits",
        Body(repeated(b"[],", FILE_CAP, start=b"[", end=b"[]]"), JSON),
    ),
    "4 MiB of lists for `/decode`": lambda: (
        "/decode?model=digits",
        Body(repeated(b"[],", JSON_CAP, start=b"[", end=b"[]]"), JSON),
    ),
    "a form of 64 pictures of 25 megapixels": lambda: ("/denoise?model=digits", form(flat_png(5000, 5000, 1), 64)),
    "one picture of 25 megapixels": lambda: ("/denoise?model=digits", Body(flat_png(5000, 5000, 3))),
    "the same, answered as an array": lambda: (
        "/denoise?model=digits",
        Body(flat_png(5000, 5000, 3), RAW | {"Accept": "application/x-npy"}),
    ),
    "a JPEG of tiny segments": lambda: (
        "/denoise?model=digits",
        Body(repeated(b"\xff\xfe\0\2", FILE_CAP, start=b"\xff\xd8")),
    ),
    "a JPEG of fill bytes": lambda: ("/denoise?model=digits", Body(repeated(b"\xff", MIB // 16, start=b"\xff\xd8"))),
    "a picture 3 million pixels long": lambda: ("/encode?model=digits", Body(flat_png(3_000_000, 1, 1))),
    "a photograph in eight orientations": lambda: (
        "/denoise?model=photo&thorough=true",
        Body(flat_png(5000, 5000, 3)),
    ),
}


def row_of(name: str, *, prefix: Sequence[str] = ()) -> list[str]:
    """Send one kind to a service and return its row.

    Args:
        name: Name of the kind.
        prefix: Command prefix of the service.
    """
    path, body = KINDS[name]()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        with contextlib.suppress(BenchmarkError):  # without cgroups, the machine is the limit
            prefix = [*stack.enter_context(memory_limit(LIMIT_BYTES)).prefix, *prefix]
        flags = ("--collections-url", f"sqlite:///{folder}/items.db", "--request-timeout-s", "5")
        service = stack.enter_context(Service(*flags, prefix=prefix))
        pid = service.process.popen.pid
        idle_bytes, before_s = memory_bytes(pid), cpu_s(pid)
        with Watch(service.port, pid) as watch:
            try:
                status, answer = ask(service.port, "POST", path, body.content, body.headers)
            except OSError:
                status, answer = 0, b""
            answered_s = cpu_s(pid) - before_s
            last, quiet_since, end = cpu_s(pid), time.perf_counter(), time.perf_counter() + MOST_S
            while time.perf_counter() - quiet_since < QUIET_S and time.perf_counter() < end:
                time.sleep(0.1)
                if (now := cpu_s(pid)) - last > QUIET_CPU_S:
                    last, quiet_since = now, time.perf_counter()
        after_s = cpu_s(pid) - before_s - answered_s
        is_dead = service.process.popen.poll() is not None
    stall, until, after = f"{watch.stall_s * 1000:.0f} ms", f"{answered_s:.1f} s", f"{max(0.0, after_s):.1f} s"
    if is_dead:
        stall, until, after = "-", "-", "-"
    size = len(body.content)
    shown = f"{size / MIB:.0f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"
    answered = "killed" if is_dead else _shown(status, answer)
    return [name, shown, answered, f"{(watch.peak_bytes - idle_bytes) / MIB:.0f} MiB", stall, until, after]


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
    """Return the table of all kinds, or of the named ones."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability bombs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout whose service is asked first")
    parser.add_argument("parts", nargs="*", help="parts of the names of kinds")
    chosen = parser.parse_args(words)
    names = [name for name in KINDS if not chosen.parts or any(part in name for part in chosen.parts)]
    if chosen.before is None:
        return table(HEAD, [row_of(name) for name in names])
    prefix = ["sh", "-c", f'cd {chosen.before.resolve()} && exec "$@"', "sh"]
    rows = []
    for name in names:
        rows.append(["before: " + (row := row_of(name, prefix=prefix))[0], *row[1:]])
        rows.append(["after: " + (row := row_of(name))[0], *row[1:]])
    return table(HEAD, rows)
