"""Writes the requirements that the images install: every package of constraints.txt that they need, with its hash.

    python deploy/lock.py

pip resolves what each image needs with constraints.txt, and says which wheels it would install for CPython 3.11 on
x86-64 Linux, and their hashes. Run this where pip reaches an index, after every change of constraints.txt. Nothing is
installed. There is no file for ARM, as constriction has no wheel for it.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
# File -> what it starts from: extras of pyproject.toml, or requirements.
EXTRAS = {"service/requirements.txt": ("tracing", "postgres"), "training/requirements.txt": ("training",)}
ALONE = {
    "service/requirements-build.txt": ("hatchling", "zensical==0.0.73"),  # as in pyproject.toml's build-system
    "service/requirements-cuda.txt": ("onnxruntime-gpu[cuda,cudnn]==1.31.1",),
}
# PyTorch comes in several builds, and which one is chosen where an image is built.
LEFT_OUT = {"torch"}
MACHINE = "x86_64"
GLIBC = range(17, 42)  # minor versions of the manylinux tags that a wheel may have


def wheels(requirements: Sequence[str], *, constraints: Path | None) -> list[tuple[str, str, str]]:
    """Return name, version and SHA-256 of the wheels that pip would install for these requirements, by name."""
    platforms = [f"--platform=manylinux_2_{minor}_{MACHINE}" for minor in GLIBC]
    platforms += [f"--platform={tag}_{MACHINE}" for tag in ("manylinux2014", "manylinux1", "linux")]
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
        command += ["--only-binary=:all:", "--python-version=3.11", f"--target={folder}/x", f"--report={report}"]
        command += ["-c", f"{constraints}"] if constraints else []
        subprocess.run([*command, *platforms, *requirements], check=True)  # noqa: S603  our own words
        installed = json.loads(report.read_text())["install"]
    return sorted(
        (
            each["metadata"]["name"].lower().replace("_", "-"),
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in installed
        if each["metadata"]["name"] not in LEFT_OUT
    )


def lock(file: str) -> str:
    """Return the content of one file."""
    requirements = [*ALONE.get(file, ())]
    if file in EXTRAS:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        requirements += project["dependencies"]
        for extra in EXTRAS[file]:
            requirements += project["optional-dependencies"][extra]
    text = "# Written by `python deploy/lock.py`; do not edit.\n"
    # What builds the wheel is in an environment of its own, and wants other versions than the tests do.
    constraints = None if file.endswith("-build.txt") else ROOT / "constraints.txt"
    for name, version, digest in wheels(requirements, constraints=constraints):
        text += f"{name}=={version} \\\n    --hash=sha256:{digest}\n"
    return text


if __name__ == "__main__":
    for file in sys.argv[1:] or (*EXTRAS, *ALONE):
        (ROOT / file).write_text(lock(file))
