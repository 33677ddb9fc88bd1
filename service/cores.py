"""How many cores are ours, by affinity and cgroup quota, and how workers and threads share them."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SPARE_THREADS = 4  # of the pool for reading and writing files, as Python's own has them beside the cores


@dataclass(frozen=True)
class Plan:
    """How this machine is shared.

    Attributes:
        cores: That may be used; half a core is 0.5.
        workers: Processes that answer.
        threads: Inside one inference.
    """

    cores: float
    workers: int
    threads: int

    @property
    def pool(self) -> int:
        """Most threads of a worker that read and write pictures beside its inferences."""
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
    """Share the cores; 0 workers are as many as there are cores for.

    Args:
        workers: The setting.
        threads: The setting.
        cores: Those that may be used; looked up if None.
    """
    cores = usable_cores() if cores is None else cores
    return Plan(cores, workers or max(1, int(cores // threads)), threads)


def usable_cores(*, cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return cores that this process may use: those it may run on, or less where a cgroup has a quota of CPU time.

    Args:
        cgroups: Where cgroups are mounted, version 1 or 2.
        own: Which ones this process is in.
    """
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(mine), *_quotas(cgroups, own)])


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Yield the quotas of our cgroups and of all above them, in cores."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the path may be the host's, of which only the last part, or nothing, is to be seen.
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            for mounted in (cgroups / controllers, cgroups / "cpu", cgroups / "unified", cgroups):
                if (quota := _quota(mounted / folder.relative_to("/"))) is not None:
                    yield quota


def _quota(folder: Path) -> float | None:
    """Return the cores that one cgroup allows; None if it says nothing."""
    try:
        if (file := folder / "cpu.max").exists():  # version 2: "50000 100000", or "max 100000"
            quota, period = file.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no number
        return None
