"""Atomic publishing of a finished model to `models/<name>/<version>/`."""

import os
import re
import shutil
from pathlib import Path

from service.contract.manifest import MANIFEST_FILE, Manifest
from service.contract.tables import TABLES_FILE
from service.contract.version import TABLES, manifest_of, tables_of
from training.card import card
from training.errors import PublishError
from training.files import write_atomically
from training.run import MODEL, RunDirectory

_NUMBERS = re.compile(r"\[\n\s*([^][{}\"]*?)\n\s*\]")  # a list of nothing else


def publish(run: RunDirectory, models: Path) -> Path:
    """Copy the run's verified `model/` to the next free version of `models/<name>/` and return that directory.

    The copy is written under a hidden name, synced to disk, then renamed, so that readers never see a part of it.

    Raises:
        PublishError: The models directory cannot be written.
    """
    source, home = run.path(MODEL), models / run.name
    staging = home / f".tmp-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        staging.mkdir()
        for path in sorted(source.iterdir()):  # one by one: copytree goes on after a full disk and lists every file
            shutil.copyfile(path, staging / path.name)
        manifest = manifest_of(staging)
        while True:
            version = next_version(home)
            write_card_and_manifest(staging, manifest.model_copy(update={"version": version}))
            _sync(staging)
            target = home / str(version)
            try:
                staging.rename(target)
            except OSError:
                if target.exists():  # another process was faster: take the next number
                    continue
                raise
            _sync_directory(home)
            return target
    except OSError as error:
        raise PublishError(
            f"cannot publish to {home}: {error.strerror or error}; make room there, make it writable, or give another "
            f"--models. The run is kept: `python -m training publish {run.directory}` tries again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def discard_folder(directory: Path) -> None:
    """Replace a folder by an empty one."""
    if directory.exists():
        for file in directory.iterdir():
            file.unlink()
    directory.mkdir(exist_ok=True)


def newest_version(home: Path) -> Path | None:
    """Return the directory of the highest version in `home`, a model's directory; None if it has no version."""
    versions = [path for path in home.glob("*") if path.name.isdecimal()] if home.is_dir() else []
    return max(versions, key=lambda path: int(path.name), default=None)


def next_version(home: Path) -> int:
    """Return the number after the highest version in `home`; 1 if it has no version."""
    newest = newest_version(home)
    return int(newest.name) + 1 if newest else 1


def write_card_and_manifest(directory: Path, manifest: Manifest) -> None:
    """Write card, tables of symbols and manifest into a version's directory, the manifest last."""
    with write_atomically(directory / "README.md") as out:
        out.write(card(manifest).encode())
    if (tables := tables_of(manifest)) is not None:
        with write_atomically(directory / TABLES_FILE) as out:
            out.write(tables)
    with write_atomically(directory / MANIFEST_FILE) as out:  # last: a directory without it is no version
        out.write(_NUMBERS.sub(_on_one_line, manifest.model_dump_json(indent=1, exclude=TABLES)).encode())


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def _sweep(home: Path) -> None:
    """Remove unfinished copies of killed processes."""
    for left in home.glob(".tmp-*"):
        pid = left.name.removeprefix(".tmp-")
        if not _is_running(pid):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)  # signal 0 only asks
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
