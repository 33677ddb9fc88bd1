"""A cgroup with a memory limit, as in containers. Needs root (Linux)."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BenchmarkError

ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))  # version 1, version 2
PATIENCE_S = 10.0


@dataclass(frozen=True)
class MemoryLimit:
    """A running cgroup.

    Attributes:
        folder: Folder of the cgroup's files.
    """

    folder: Path

    @property
    def prefix(self) -> list[str]:
        """Command prefix that runs a command inside."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    @property
    def peak_bytes(self) -> int:
        """Peak memory of all processes together."""
        names = ("memory.max_usage_in_bytes", "memory.peak")
        return next(int(file.read_text()) for name in names if (file := self.folder / name).exists())


@contextlib.contextmanager
def memory_limit(max_bytes: int) -> Iterator[MemoryLimit]:
    """Create a cgroup with a memory limit for the block.

    Raises:
        BenchmarkError: The cgroup cannot be created on this machine.
    """
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), ROOTS[0])
    folder = root / f"hourglass-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        names = ("memory.limit_in_bytes", "memory.max")
        next(file for name in names if (file := folder / name).exists()).write_text(f"{max_bytes}")
    except (OSError, StopIteration) as error:
        raise BenchmarkError(f"no limit can be set ({error!r}); it needs root, and cgroups of memory") from error
    try:
        yield MemoryLimit(folder)
    finally:
        end = time.monotonic() + PATIENCE_S
        while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < end:
            time.sleep(0.05)
        folder.rmdir()
