"""The machine of a benchmark."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = ("onnxruntime", "numpy", "uvicorn", "fastapi")


def machine() -> dict[str, str]:
    """Return the processor, its load, and versions of libraries."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in info if line.startswith("model name")), platform.machine())
    git = ["git", "describe", "--always", "--dirty"]
    is_checkout = shutil.which("git") and (ROOT / ".git").exists()
    commit = subprocess.check_output(git, cwd=ROOT, text=True).strip() if is_checkout else ""
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "load": " ".join(f"{average:.1f}" for average in os.getloadavg()),
        "python": platform.python_version(),
        "hourglass": commit or version("hourglass-service"),
        **{name: version(name) for name in LIBRARIES},
    }


def summary() -> str:
    """Return machine and date in one line."""
    here = machine()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {here['hourglass']}, {here['cpu']} (load {here['load'].split()[0]}), "
        f"Python {here['python']}, onnxruntime {here['onnxruntime']}"
    )
