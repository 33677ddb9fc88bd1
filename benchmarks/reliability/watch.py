"""Observation of a service during a request: its memory, CPU time, and health."""

import contextlib
import http.client
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
TIMEOUT_S = 120.0


@dataclass
class Watch:
    """Observes a service for the duration of a `with` block.

    Attributes:
        port: Port of the service.
        pid: Process id of the service.
        peak_bytes: Peak memory.
        stall_s: Longest time of another client's /health/live, or the CPU time of the service meanwhile if that is
            less: a service that waits for a core on a busy machine does not stall.
    """

    port: int
    pid: int
    peak_bytes: int = 0
    stall_s: float = 0.0
    _is_over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._threads = [threading.Thread(target=work) for work in (self._health, self._memory)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _health(self) -> None:
        while not self._is_over.is_set():
            started, cpu_started = time.perf_counter(), cpu_s(self.pid)
            with contextlib.suppress(OSError):  # it was killed, or hangs: what it has used says which
                ask(self.port, "GET", "/health/live", None, {})
            took_s = min(time.perf_counter() - started, cpu_s(self.pid) - cpu_started)
            self.stall_s = max(self.stall_s, took_s)
            time.sleep(0.02)

    def _memory(self) -> None:
        while not self._is_over.is_set():
            self.peak_bytes = max(self.peak_bytes, memory_bytes(self.pid))
            time.sleep(0.01)


def memory_bytes(pid: int) -> int:
    """Return the memory of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process since its start; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def ask(
    port: int, method: str, path: str, body: bytes | None, headers: dict[str, str], *, timeout_s: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """Send a request on a new connection and return status and body of the answer.

    Raises:
        TimeoutError: No answer came within `timeout_s`.
        OSError: The connection failed.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError("no answer") from error
    finally:
        connection.close()
