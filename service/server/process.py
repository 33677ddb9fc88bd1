"""Listen and serve on one port, and drain without losing accepted requests."""

import contextlib
import gc
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.app import App, create_app
from service.errors import CannotListen
from service.http.admission import Admission
from service.models.probe import Child
from service.server.connection import protocol_for
from service.server.exit_codes import EXIT_CUT_OFF, EXIT_STOPPED
from service.settings import Settings
from service.telemetry.multiprocess import SharedCounters
from service.telemetry.tracing import Tracer, is_wanted

log = logging.getLogger(__name__)

# Sent by a service manager, Ctrl-C, a closed terminal, and Ctrl-\\. All of them drain.
STOP_SIGNALS = [
    signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if name in signal.Signals.__members__
]

# What the kernel takes of an answer ahead of the network. By default it takes up to 4 MiB for each client that does not
# read, in memory that counts for the container and not for the budget.
_UNSENT_BYTES = 128 * 1024

# uvloop accepts one connection of a listening socket in each step of the event loop, so it gets the same one several
# times: a client of /health would wait until every earlier one of many that connect at once has started a request.
_ACCEPTED_AT_ONCE = 8

# An idle service, too, drains for this long, so that clients with open connections and load balancers notice.
_LEAST_DRAIN_S = 0.5


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Clients that connect before the server is ready wait in its backlog.

    Raises:
        CannotListen: The address is not local, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "win32":  # inherited by every connection
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error.strerror}; end the process that uses it, or choose another "
            "--port or --host"
        ) from error
    return listener


class Beat(Protocol):
    """Heartbeat of a worker, in memory shared with its parent: seconds on the monotonic clock."""

    value: float


def heed(handler: Callable[[int, FrameType | None], object]) -> None:
    """Install a handler for all stop signals, except those that this process inherited as ignored, as under nohup."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def serve(
    settings: Settings,
    listener: socket.socket,
    first: Child | None = None,
    shared: SharedCounters | None = None,
    beat: Beat | None = None,
) -> None:
    """Serve until a stop signal. If requests had to be aborted, exit the process here.

    Args:
        settings: Settings of this service.
        listener: Socket from `listen`.
        first: Child process from `probe.start_child`.
        shared: Shared counters of all workers, if there are several.
        beat: Heartbeat that the parent process watches, if there is one.

    Raises:
        ProviderUnavailable: The requested device is not available.
        TracingUnavailable: Tracing is requested, but its exporter is not installed.
    """
    heed(_end_before_start)
    app = create_app(settings, first, shared, Tracer() if is_wanted(os.environ) else None)
    server = Server(uvicorn_config(settings, app), app.service.admission, grace_s=settings.grace_s, beat=beat)
    server.run(sockets=[listener, *(listener.dup() for _ in range(_ACCEPTED_AT_ONCE - 1))])
    if server.is_cut_off:
        log.warning("the grace period of %d s ended before every request was answered", settings.grace_s)
        _exit_now()


class Server(uvicorn.Server):
    """uvicorn's server with a drain.

    uvicorn closes its port at the signal. Here the port stays open while admitted requests are answered, so that
    `/health/ready` and new requests get a 503 instead of a refused connection. A second signal exits at once.
    """

    def __init__(
        self, config: uvicorn.Config, admission: Admission, *, grace_s: float, beat: Beat | None = None
    ) -> None:
        super().__init__(config)
        self.is_cut_off = False
        self._admission = admission
        self._grace_s = grace_s
        self._beat = beat
        self._draining_since: float | None = None
        self._parent = multiprocessing.parent_process()  # None unless there are several workers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # modules and models stay: the collector need not visit them again
        if sockets:
            host, port = sockets[0].getsockname()[:2]
            log.info("process %d running on http://%s:%d", os.getpid(), f"[{host}]" if ":" in host else host, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install our signal handlers: uvicorn handles only two signals, even if they are ignored."""
        heed(self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining. Called by the signal handler, between two steps of the event loop."""
        if self._draining_since is not None:
            log.warning("stopped at once by a second %s", signal.Signals(sig).name)
            _exit_now()
        self._start_draining()

    async def on_tick(self, counter: int) -> bool:
        if self._beat is not None:
            self._beat.value = time.monotonic()
        # Compare with the parent's pid at our start, as it may have died meanwhile.
        if self._parent and self._draining_since is None and os.getppid() != self._parent.pid:
            log.warning("the parent process is gone; stopping")
            self._start_draining()
        if self._draining_since is not None and not self.should_exit:
            self._drain(time.monotonic() - self._draining_since)
        return await super().on_tick(counter)

    def _start_draining(self) -> None:
        self._admission.start_draining()
        self._draining_since = time.monotonic()
        for connection in self.server_state.connections:
            # Busy connections close after their answer; on an idle one, the 503 of the next request closes it.
            cycle = connection.cycle if isinstance(connection, HttpToolsProtocol) else None
            if cycle and not cycle.response_complete:
                cycle.keep_alive = False

    def _drain(self, passed_s: float) -> None:
        if passed_s >= self._grace_s and not self._admission.is_idle:
            self.is_cut_off = True
            self._admission.give_up()
        if self.is_cut_off or (passed_s >= min(_LEAST_DRAIN_S, self._grace_s) and self._admission.is_idle):
            # uvicorn then only waits for answers to be sent.
            self.config.timeout_graceful_shutdown = max(1, math.ceil(self._grace_s - passed_s))
            self.should_exit = True


def _end_before_start(_: int, __: FrameType | None) -> None:
    raise SystemExit(EXIT_STOPPED)


def _exit_now() -> NoReturn:
    logging.shutdown()
    os._exit(EXIT_CUT_OFF)  # not sys.exit: that waits for the threads of running inferences


def uvicorn_config(settings: Settings, app: App) -> uvicorn.Config:
    """Return the configuration of uvicorn for our application."""
    return uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=protocol_for(settings, app.service.metrics.meters),  # type: ignore[arg-type]  # uvicorn only calls it
        timeout_keep_alive=math.ceil(settings.keep_alive_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # `http/instrument.py` logs requests without personal data
        server_header=False,
    )
