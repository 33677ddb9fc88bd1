"""Count usable cores, by affinity and cgroup quota, and share them between workers and threads."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SPARE_THREADS = 4  # of the pool for decoding and encoding, in addition to the cores, as in Python's default pool


@dataclass(frozen=True)
class Plan:
    """The shares of cores for workers and threads.

    Attributes:
        cores: Usable cores; half a core is 0.5.
        workers: Number of worker processes.
        threads: Threads inside one inference.
    """

    cores: float
    workers: int
    threads: int

    @property
    def pool(self) -> int:
        """Size of a worker's thread pool for decoding and encoding."""
        return math.ceil(self.cores / self.workers) + _SPARE_THREADS

    def __str__(self) -> str:
        busy = self.workers * self.threads
        shares = f"{self.cores:g} core(s) for {self.workers} worker(s) of {self.threads} thread(s)"
        if busy > math.ceil(self.cores):
            return f"{shares}: {busy} threads wait for each other; ask for fewer workers or threads"
        if busy + 1 <= self.cores:
            return (
                f"{shares}: {self.cores - busy:g} core(s) stay idle; workers=0 takes all, with a worker's memory each"
            )
        return shares


def plan(workers: int, threads: int, *, cores: float | None = None) -> Plan:
    """Share the cores between workers.

    Args:
        workers: Number of workers; 0 for one per `threads` usable cores.
        threads: Threads inside one inference.
        cores: Usable cores; None to count them.
    """
    cores = usable_cores() if cores is None else cores
    return Plan(cores, workers or max(1, int(cores // threads)), threads)


def usable_cores(*, cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the number of usable cores: those of the affinity, or fewer by a cgroup's CPU quota.

    Args:
        cgroups: Mount point of cgroups, version 1 or 2.
        own: File that lists the cgroups of this process.
    """
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(mine), *_quotas(cgroups, own)])


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Yield the quotas of our cgroups and of all above them, in cores."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the path may be the host's, of which only the last part is visible, or nothing.
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            for mounted in (cgroups / controllers, cgroups / "cpu", cgroups / "unified", cgroups):
                if (quota := _quota(mounted / folder.relative_to("/"))) is not None:
                    yield quota


def _quota(folder: Path) -> float | None:
    """Return the number of cores that a cgroup allows; None without a quota."""
    try:
        if (file := folder / "cpu.max").exists():  # version 2: "50000 100000", or "max 100000"
            quota, period = file.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no number
        return None
