"""A cgroup with a CPU quota, as in containers. Needs root (Linux)."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BenchmarkError

ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))  # version 1, version 2
PERIOD_US = 100_000
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Quota:
    """A running cgroup.

    Attributes:
        folder: Folder of the cgroup's files.
        cores: Quota in cores.
    """

    folder: Path
    cores: float

    @property
    def prefix(self) -> list[str]:
        """Command prefix that runs a command inside."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    @property
    def throttled_share(self) -> float:
        """Share of periods so far in which the cgroup was throttled."""
        stat = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(stat["nr_throttled"]) / max(1, int(stat["nr_periods"]))


@contextlib.contextmanager
def cpu_quota(cores: float) -> Iterator[Quota]:
    """Create a cgroup with a quota in cores for the block.

    Raises:
        BenchmarkError: The cgroup cannot be created on this machine.
    """
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), ROOTS[0])
    folder = root / "hourglass-bench"
    try:
        folder.mkdir(exist_ok=True)
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_period_us").write_text(f"{PERIOD_US}")
            (folder / "cpu.cfs_quota_us").write_text(f"{round(cores * PERIOD_US)}")
        else:
            (folder / "cpu.max").write_text(f"{round(cores * PERIOD_US)} {PERIOD_US}")
    except OSError as error:
        raise BenchmarkError(
            f"no quota can be set ({error}); it needs root, and cgroups that may be written"
        ) from error
    try:
        yield Quota(folder, cores)
    finally:
        end = time.monotonic() + PATIENCE_S
        while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < end:
            time.sleep(0.05)
        folder.rmdir()
