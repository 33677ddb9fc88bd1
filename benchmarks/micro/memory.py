"""Memory of each shipped model when open and closed, and the time to reopen it.

    python -m benchmarks.micro memory

One process loads the models one after another as the service does, closes all, and reopens them. Memory is resident,
in MiB; interpreter and libraries have a separate row.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.micro.case import parser_of
from benchmarks.page import table
from benchmarks.service import newest
from service.limits import run_limits
from service.memory import release_unused
from service.models.loading import load_model
from service.models.session import start_provider
from service.settings import Settings

MIB = 2**20


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser_of("memory", __doc__).parse_args(words)
    import service.api.app  # noqa: F401, PLC0415  what a worker has loaded before its models

    limits, provider = run_limits(Settings()), start_provider("cpu")
    rows = [["libraries", "", f"{(before := resident_mib()):.0f}", ""]]
    models = []
    for directory in sorted(newest(path.name) for path in (ROOT / "models").iterdir()):
        models.append(load_model(directory, provider=provider, limits=limits))
        release_unused()
        now = resident_mib()
        rows.append([models[-1].label, f"{files_mib(directory):.1f}", f"{now - before:.1f}", ""])
        before = now
    rows.append(["together", "", f"{before:.0f}", ""])
    for model in models:
        model.close_idle(0)
    release_unused()
    rows.append(["all closed", "", f"{resident_mib():.0f}", ""])
    for row, model in zip(rows[1:], models, strict=False):
        began = time.perf_counter()
        model.open()
        row[3] = f"{(time.perf_counter() - began) * 1e3:.0f}"
    return table(["model", "files, MiB", "memory, MiB", "opened again, ms"], rows)


def resident_mib() -> float:
    """Return the memory of this process (Linux)."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def files_mib(directory: Path) -> float:
    """Return the size of a version's graphs on disk."""
    return sum(path.stat().st_size for path in directory.glob("*.onnx")) / MIB
