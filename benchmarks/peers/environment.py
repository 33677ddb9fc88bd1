"""A virtual environment for each peer, created once from its pins in `build/bench`."""

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.commands import BenchmarkError
from benchmarks.machine import ROOT

CACHE = ROOT / "build" / "bench"  # git ignores build/, and `make clean` removes it


class InstallError(BenchmarkError):
    """pip failed; the message is its output."""


def environment_python(name: str) -> Path:
    """Return the interpreter of the environment for `benchmarks/peers/<name>.txt`.

    It is created if it is missing or outdated.

    Raises:
        InstallError: pip cannot install the pins on this machine.
    """
    pins = Path(__file__).with_name(f"{name}.txt")
    folder = CACHE / name
    stamp, python = folder / "pins.sha256", folder / "bin" / "python"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"installing {name} into {folder.relative_to(ROOT)} (once)", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
    ):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise InstallError(_reason(finished.stderr))
    stamp.write_text(digest)
    return python


def pinned(name: str) -> dict[str, str]:
    """Return the versions of packages in `benchmarks/peers/<name>.txt`."""
    lines = Path(__file__).with_name(f"{name}.txt").read_text().split()
    return dict(line.split("==", 1) for line in lines)


def _reason(said: str) -> str:
    lines = said.strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip failed without a word"])[-1]
