"""List the versions in a models directory, and detect changes."""

import re
from pathlib import Path

from service.contract.manifest import MANIFEST_FILE

_VERSION = re.compile(r"[1-9][0-9]{0,8}")

# Name, size, change time and inode of every file of a version.
Fingerprint = tuple[tuple[str, int, int, int], ...]


def list_versions(models_dir: Path) -> dict[str, tuple[int, ...]]:
    """List the versions with a manifest by model name, in ascending order."""
    versions_by_name: dict[str, tuple[int, ...]] = {}
    for directory in sorted(models_dir.iterdir()):
        if directory.name.startswith(".") or not directory.is_dir():
            continue
        versions = sorted(
            int(entry.name)
            for entry in directory.iterdir()
            if _VERSION.fullmatch(entry.name) and is_there(entry / MANIFEST_FILE)
        )
        if versions:
            versions_by_name[directory.name] = tuple(versions)
    return versions_by_name


def is_there(file: Path) -> bool:
    """Return whether a file of a version exists, possibly as a broken link."""
    return file.is_file() or file.is_symlink()


def fingerprint_of(directory: Path) -> Fingerprint:
    """Return a fingerprint of the files of a version."""
    entries = []
    for path in sorted(directory.iterdir()):
        try:
            stat = path.stat()
        except FileNotFoundError:  # a broken link; if the file is gone, this fails, too
            stat = path.lstat()
        entries.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(entries)
