"""The service in benchmarks: start until ready, requests, and end with all its processes."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.client import post, status_and_body
from benchmarks.commands import BenchmarkError
from benchmarks.machine import ROOT
from benchmarks.peers.wrk import Request, write_request
from benchmarks.process import Process, free_port, running

MODELS = ROOT / "models"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.005
SURE = 20  # answers for each worker, all of them "ready"


def newest(name: str) -> Path:
    """Return the directory of a shipped model's newest version."""
    return max((MODELS / name).iterdir(), key=lambda folder: int(folder.name))


class ServiceError(BenchmarkError):
    """The service does not start; the message includes its output."""


class Service:
    """`python -m service` on a free port of this machine.

    with Service("--max-queue-images", "32", cores=[1]) as service: ...

    Args:
        flags: Flags of the command line.
        models: Directory of models; those of the checkout if None.
        workers: Number of workers.
        cores: Cores to run on; None for all.
        prefix: Command prefix, such as that of a quota.
        checkout: Root of the repository whose service runs.

    Attributes:
        process: The process, with its memory, files and CPU time.
        port: Port on 127.0.0.1.
        ready_s: Seconds from the start until all workers served and /health/ready was 200.
    """

    process: Process
    ready_s: float

    def __init__(
        self,
        *flags: str,
        models: Path | None = None,
        workers: int = 1,
        cores: Sequence[int] | None = None,
        prefix: Sequence[str] = (),
        checkout: Path = ROOT,
    ) -> None:
        self.flags, self.workers, self.cores, self.prefix, self.checkout = flags, workers, cores, prefix, checkout
        self.models = models or checkout / "models"
        self.port = free_port()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "service",
            "--port",
            str(self.port),
            "--models-dir",
            str(self.models),
        ]
        command += ["--workers", str(self.workers), "--device", "cpu", *self.flags]
        started = time.perf_counter()
        with contextlib.ExitStack() as stack:  # ends it if it does not become ready
            self.process = stack.enter_context(running("service", command, cores=self.cores, root=self.checkout))
            self._wait(started + START_TIMEOUT_S)
            self.ready_s = time.perf_counter() - started
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ask(self, path: str, body: bytes, content_type: str) -> bytes:
        """Post a body and return the body of the answer.

        Raises:
            AnswerError: The answer is not 2xx.
        """
        return post(self.port, path, body, content_type)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.popen.terminate()
        return self.process.popen.wait(STOP_TIMEOUT_S)

    def request(self, folder: Path, path: str, body: bytes, content_type: str) -> Request:
        """Write a request for wrk into files of a folder."""
        name = f"{abs(hash((path, content_type, body))):x}"
        url = f"http://127.0.0.1:{self.port}{path}"
        return write_request(folder, name=name, url=url, content_type=content_type, body=body)

    def _wait(self, end: float) -> None:
        asks = 1 if self.workers == 1 else SURE * self.workers  # any worker answers, and each loads by itself
        while self.process.log.read_bytes().count(b" running on ") < self.workers or not all(
            self._is_ready() for _ in range(asks)
        ):
            if self.process.popen.poll() is not None or time.perf_counter() > end:
                raise ServiceError(f"the service does not start:\n{self.process.last_words()}")
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        try:
            return status_and_body(self.port, "GET", "/health/ready")[0] == 200
        except OSError:
            return False
