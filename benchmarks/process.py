"""A server process pinned to cores, with its children: start, pause, measure and end."""

import contextlib
import os
import signal
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.peers.environment import CACHE

END_TIMEOUT_S = 5.0
MIB = 2**20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Resources:
    """Resources of one process: current and peak memory in MiB, open files and threads."""

    memory_mib: float
    peak_mib: float
    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory_mib:.0f} MiB, {self.files} files, {self.threads} threads"


@dataclass(frozen=True)
class Process:
    """A running server and its log."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> list[int]:
        """Process ids of the server and all its descendants."""
        children = defaultdict(list)
        for pid, fields in _stats():
            children[int(fields[1])].append(pid)
        pids = [self.popen.pid]
        for pid in pids:  # grows while we walk
            pids += children[pid]
        return pids

    @property
    def cpu_s(self) -> float:
        """CPU seconds used by all of these processes."""
        mine = set(self.pids)
        return sum(int(fields[11]) + int(fields[12]) for pid, fields in _stats() if pid in mine) / TICKS_PER_S

    @property
    def resources(self) -> "Resources":
        """Resources of the first process, which is the parent of several workers (Linux)."""
        process = Path(f"/proc/{self.popen.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        memory, peak = (int(status[name].split()[0]) * 1024 / MIB for name in ("VmRSS", "VmHWM"))
        return Resources(memory, peak, len(list((process / "fd").iterdir())), int(status["Threads"]))

    @property
    def own_mib(self) -> float:
        """Memory of all processes in MiB, with shared pages counted once (Linux)."""
        lines = [line for pid in self.pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 / MIB for line in lines if line.startswith("Pss:"))

    def pause(self) -> None:
        """Pause all processes, since some servers poll even when idle."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume after `pause`."""
        self._send(signal.SIGCONT)

    def end(self) -> None:
        """Send SIGTERM, and SIGKILL to processes left after some seconds."""
        pids = self.pids
        self.resume()
        self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(END_TIMEOUT_S)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _send(self, number: signal.Signals) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@contextlib.contextmanager
def running(name: str, command: Sequence[str], *, cores: Sequence[int] | None, root: Path = ROOT) -> Iterator[Process]:
    """Run `command` in the root of a checkout for the block, on some cores or on all."""
    log = root / "build" / "bench" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("HOURGLASS_")}
    # More threads would only take the one core from each other. The rest keeps BentoML off the network.
    environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environ |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(CACHE / "bentoml-home")}
    cores = sorted(os.sched_getaffinity(0)) if cores is None else cores
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches us alone, and we end the servers in order.
        popen = subprocess.Popen(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *command],
            cwd=root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        process.end()


def free_port() -> int:
    """Return an unused port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yield the process id and the fields of /proc/<pid>/stat, from the third on, of every process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()
