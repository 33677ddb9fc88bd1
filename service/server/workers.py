"""`--workers N`: processes that share one port. Dead ones are replaced, and a signal to the parent stops all."""

import logging
import multiprocessing
import signal
import socket
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from service.errors import NoTemporaryDirectory, StartupError
from service.server.exit_codes import EXIT_CANNOT_START, EXIT_CUT_OFF, EXIT_STOPPED
from service.server.process import STOP_SIGNALS, Beat, heed, serve
from service.settings import Settings
from service.telemetry.logs import start_logging
from service.telemetry.multiprocess import SharedCounters

log = logging.getLogger(__name__)

_TICK_S = 0.2
_RESTART_PAUSE_S = 1.0  # between two starts in one place, so that a worker that always dies does not use all CPU time
_MARGIN_S = 10.0  # after the grace period, for workers to exit before they are killed


class Supervisor:
    """Keeps `settings.workers` processes alive until a signal ends them.

    uvicorn's own supervisor polls for signals, does not end early at a second one, and cannot run our `Server`. Workers
    inherit the listening socket instead of opening it again (SO_REUSEPORT), so that connections which a killed worker
    has not accepted go to another one.

    Raises:
        NoTemporaryDirectory: The workers have no directory for shared counters.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        # spawn: a process with onnxruntime's threads cannot be forked.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess] = []
        self._started_at: dict[BaseProcess, float] = {}
        self._beats: dict[BaseProcess, Beat] = {}  # time of the last heartbeat; 0 before it serves
        self._stopping_since: float | None = None
        self._is_hurried = False
        self._counters = _counters_directory()

    def run(self) -> int:
        """Run until all workers have ended and return the worst of their exit codes."""
        heed(self._on_signal)
        with self._counters:
            return self._run()

    def _run(self) -> int:
        for place in range(self._settings.workers):
            self._workers.append(self._start(place))
        while self._stopping_since is None:
            wait([worker.sentinel for worker in self._workers], timeout=_TICK_S)
            if any(worker.exitcode == EXIT_CANNOT_START for worker in self._workers):
                self._stop()
                break
            self._kill_the_silent()
            self._replace_the_dead()
        self._listener.close()  # else clients would wait on a port without a server
        return self._wait_for_all(self._stopping_since or time.monotonic())

    def _start(self, place: int) -> BaseProcess:
        shared = SharedCounters(Path(self._counters.name), place)
        beat: Beat = self._context.Value("d", 0.0, lock=False)
        worker = self._context.Process(target=work, args=(self._settings, self._listener, shared, beat))
        worker.start()
        self._beats[worker] = beat
        self._started_at[worker] = time.monotonic()
        if self._stopping_since is not None:  # the signal arrived while this worker was being started
            worker.terminate()
        return worker

    def _kill_the_silent(self) -> None:
        """Kill workers without a recent heartbeat of their event loop."""
        for worker, beat in self._beats.items():
            silent_s = time.monotonic() - beat.value
            if beat.value and silent_s > self._settings.worker_timeout_s and worker.exitcode is None:
                log.error("worker %s has sent no heartbeat for %.0f s; killing it", worker.pid, silent_s)
                worker.kill()
                worker.join()

    def _replace_the_dead(self) -> None:
        for i, worker in enumerate(self._workers):
            is_dead = worker.exitcode is not None
            if not is_dead or self._stopping_since is not None:
                continue
            if time.monotonic() - self._started_at[worker] < _RESTART_PAUSE_S:
                time.sleep(_TICK_S)  # its sentinel is ready, so `wait` returns at once
                continue
            log.error("worker %s ended with %s; starting another", worker.pid, worker.exitcode)
            del self._started_at[worker], self._beats[worker]
            self._workers[i] = self._start(i)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self._stopping_since is None:
            self._stop()
        else:
            self._is_hurried = True

    def _stop(self) -> None:
        self._stopping_since = time.monotonic()
        for worker in self._workers:
            worker.terminate()

    def _wait_for_all(self, since: float) -> int:
        while alive := [worker for worker in self._workers if worker.is_alive()]:
            wait([worker.sentinel for worker in alive], timeout=_TICK_S)
            if self._is_hurried or time.monotonic() - since > self._settings.grace_s + _MARGIN_S:
                for worker in alive:
                    worker.kill()
        codes = {worker.exitcode for worker in self._workers}
        if EXIT_CANNOT_START in codes:
            return EXIT_CANNOT_START
        # A worker that was stopped before it served has lost no request.
        return EXIT_STOPPED if codes <= {EXIT_STOPPED, -signal.SIGTERM} else EXIT_CUT_OFF


def _counters_directory() -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="hourglass-", ignore_cleanup_errors=True)
    except OSError as error:
        raise NoTemporaryDirectory(
            f"several workers need a directory for shared counters: {error}; mount a writable /tmp, set TMPDIR, or run "
            "one worker"
        ) from error


def work(settings: Settings, listener: socket.socket, shared: SharedCounters, beat: Beat) -> None:
    """Run one worker: a process that serves on an inherited socket."""
    start_logging(settings)
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:  # a terminal signals the whole group; the parent sends SIGTERM
            signal.signal(number, signal.SIG_IGN)
    try:
        serve(settings, listener, shared=shared, beat=beat)
    except StartupError as error:
        log.critical("Hourglass cannot start: %s", error)
        sys.exit(EXIT_CANNOT_START)
