"""Compare the instruction counts of ten fixed jobs with the committed ones, with a tolerance of 3 %.

    python -m benchmarks.guard
    python -m benchmarks.guard --update        # after a change that is meant to cost or save

valgrind counts the instructions of an emulated processor, so the counts are the same on any machine and under any load.
They depend on the versions of Python and the libraries, which are stored with them. Needs valgrind and a C compiler
(Debian and Ubuntu: apt-get install valgrind gcc). A table shows the jobs that cost more or less than before; the exit
status does not depend on it.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.commands import BenchmarkError, report
from benchmarks.machine import ROOT
from benchmarks.page import table

COUNTS = Path(__file__).with_name("counts.json")
MARKS = Path(__file__).with_name("marks.c")
TOLERANCE = 0.03
JOBS = 10
POLL_S = 0.5
LIBRARIES = ("numpy", "pillow", "pyspng", "isal", "orjson", "constriction")
DUMP = re.compile(r"^desc: Trigger: Client Request: ([^\n]*)\n.*?^totals: (\d+)", re.DOTALL | re.MULTILINE)


def main(words: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status: 0, or 1 if nothing could be counted."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help=f"write the counts to {COUNTS.name}")
    is_update = parser.parse_args(words).update
    return report(lambda: measure(is_update=is_update), marker=None, command="guard")


def measure(*, is_update: bool) -> str:
    """Count instructions and return a table with the committed counts.

    Raises:
        BenchmarkError: valgrind or the compiler is missing, or a job failed.
    """
    before = json.loads(COUNTS.read_text("utf-8")) if COUNTS.exists() else {"versions": {}, "instructions": {}}
    counts, here = count(), versions()
    if is_update:
        COUNTS.write_text(json.dumps({"versions": here, "instructions": counts}, indent=2) + "\n", "utf-8")
    other = [f"{name} {before['versions'].get(name)} -> {found}" for name, found in here.items()
             if before["versions"].get(name) != found]  # fmt: skip
    note = f"\n\nCounted with other versions: {', '.join(other)}." if other else ""
    return compared(before["instructions"], counts) + note


def compared(before: Mapping[str, int], counts: Mapping[str, int]) -> str:
    """Return a table with a row per job and a remark on changes above the tolerance."""
    rows = []
    for name in dict.fromkeys([*before, *counts]):
        old, new = before.get(name), counts.get(name)
        if old is None or new is None:
            cells = ["-" if n is None else f"{n / 1e6:.3f}" for n in (old, new)]
            rows.append([name, *cells, "-", "new" if old is None else "gone"])
            continue
        change = new / old - 1
        verdict = "MORE" if change > TOLERANCE else "less" if change < -TOLERANCE else ""
        rows.append([name, f"{old / 1e6:.3f}", f"{new / 1e6:.3f}", f"{change:+.1%}", verdict])
    return table(["million instructions", "committed", "now", "change", f"over {TOLERANCE:.0%}"], rows)


def count() -> dict[str, int]:
    """Return the instructions of each job, counted by valgrind."""
    for program, package in (("valgrind", "valgrind"), ("cc", "gcc")):
        if not shutil.which(program):
            raise BenchmarkError(f"{program} is missing; install it with: apt-get install {package}")
    with TemporaryDirectory(prefix="hourglass-guard-") as name:
        folder = Path(name)
        _run(["cc", "-O1", "-shared", "-fPIC", "-o", str(folder / "marks.so"), str(MARKS)])
        environ = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        valgrind = ["valgrind", "--tool=callgrind", "--dump-line=no", f"--callgrind-out-file={folder / 'counts'}"]
        command = [*valgrind, sys.executable, "-m", "benchmarks.guard.counted", str(folder / "marks.so")]
        with (folder / "log").open("w") as log:
            popen = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
            with tqdm(total=JOBS, desc="counting", unit="job", leave=False) as bar:
                while popen.poll() is None:
                    bar.update(len(list(folder.glob("counts.*"))) - bar.n)
                    _wait(popen)
        if popen.returncode:
            raise BenchmarkError(f"the jobs failed:\n{(folder / 'log').read_text()[-2000:]}")
        dumps = sorted(folder.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        return {found[1]: int(found[2]) for path in dumps if (found := DUMP.search(path.read_text()))}


def versions() -> dict[str, str]:
    """Return the versions of Python and libraries that the counts depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {name: version(name) for name in LIBRARIES}


def _run(command: Sequence[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise BenchmarkError(f"{command[0]} failed: {finished.stderr.strip()}")


def _wait(popen: "subprocess.Popen[bytes]") -> None:
    try:
        popen.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return


if __name__ == "__main__":
    sys.exit(main())
