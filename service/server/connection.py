"""Timeouts of a connection.

uvicorn waits indefinitely for headers, bodies and readers. This protocol limits each wait:

    connect -> [ header_timeout_s ] -> headers -> [ body_timeout_s ] -> body -> (admission's deadline) -> answer
       ^                                                                                                    |
       +--------------------------------- [ idle: keep_alive_s ] ------------------------------------------+
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from service.errors import PROBLEM_JSON, RequestError, RequestTimeout, problem_bytes
from service.http.instrument import REFUSED
from service.server.parsing import BoundedParsing
from service.server.turns import Turns
from service.settings import Settings
from service.telemetry.counters import Meters

log = logging.getLogger("service.requests")

# A client that has closed its sending half may be gone or waiting. Only a write tells: the peer of a closed socket
# resets it. HTTP/1.1 clients ignore an interim response (RFC 9110, 15.2).
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBE_INTERVAL_S = 1.0


class Protocol(BoundedParsing):
    """uvicorn's protocol with timeouts. Its own refusals are problem documents, too.

    Args:
        settings: Settings; `header_timeout_s`, `body_timeout_s` and `max_header_bytes` are used.
        meters: Counters of the worker, for requests refused before they reach the application.
        turns: Turns of the pipelined requests of all connections.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: declared so by uvicorn
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        meters: Meters,
        turns: Turns,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, settings=settings, turns=turns)
        self._meters = meters
        self._timed: str | None = None  # what `_timer` limits; set once, so that dripping does not restart it
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_timer()
        self._unset_write_timer()
        self._unparsed = b""
        self.resume_writing()
        super().connection_lost(exc)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._reads is None:
            self._unset_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.flow.write_paused:
            self._unset_write_timer()
        if self._refusal is not None and self._is_answered and not self.transport.is_closing():
            self._send_refusal(self._refusal)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks: keep the sending half open?
        """Still answer a client that has closed its sending half after a complete request."""
        if self._unparsed:
            self._is_half_closed = True
        elif self._reads is not None or self._is_answered:
            return False
        else:
            self._end_after_this()
        self._unset_timer()
        self._timer = self.loop.call_later(_PROBE_INTERVAL_S, self._probe)
        return True

    def pause_writing(self) -> None:
        """Start the timeout of a client that does not read its answer, `body_timeout_s`."""
        super().pause_writing()
        if self._write_timer is None:  # reading a little does not restart it
            self._write_timer = self.loop.call_later(self._settings.body_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._unset_write_timer()
        if self.flow is not None:
            super().resume_writing()

    def _unset_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _set_timer(self) -> None:
        # After an answer, bytes that begin no request (blank lines) count as an incomplete head.
        reads = self._reads or ("head" if self._is_answered else None)
        if reads is None or reads == self._timed:
            return
        self._unset_timer()
        self._timed = reads
        seconds = self._settings.body_timeout_s if reads == "body" else self._settings.header_timeout_s
        self._timer = self.loop.call_later(seconds, self._time_is_up)

    def _unset_timer(self) -> None:
        self._timed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        reads, self._timed, self._timer = self._timed, None, None
        is_earlier_unanswered = bool(self.pipeline) or (reads == "head" and not self._is_answered)
        if is_earlier_unanswered:  # the next request waits for our answer, so it cannot be late
            self._set_timer()
        elif reads == "body" and not self._is_answered and not self.cycle.response_started:
            seconds = self._settings.body_timeout_s
            self._refuse(
                RequestTimeout(f"the body did not arrive within {seconds:g} s of the headers (setting body_timeout_s)")
            )
        else:
            self.transport.close()

    def _probe(self) -> None:
        if self._is_answered or self.transport.is_closing():
            return
        if not self.cycle.response_started and self.scope["http_version"] == "1.1":
            self.transport.write(_PROBE)
        self._timer = self.loop.call_later(_PROBE_INTERVAL_S, self._probe)

    def _refuse(self, error: RequestError) -> None:
        """Answer with a problem document, disconnect the application from the request, and close the connection.

        Earlier requests of the connection are answered first.
        """
        self._unset_timer()
        if self._reads == "body":
            if self.pipeline:  # it must not start, as its body will never arrive
                self.pipeline.popleft()
                assert self._earlier is not None  # noqa: S101  for the type checker: it waits for an earlier one
                self.cycle = self._earlier
            elif self.cycle.response_complete:  # it was answered already
                self.transport.close()
                return
            elif self.cycle.response_started:
                self._is_last, self.cycle.keep_alive = True, False
                return
            else:
                self.cycle.scope[REFUSED] = error  # type: ignore[literal-required]  # our key; the application counts it
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self._send_refusal(error, is_counted=True)
                return
        self._reads = None
        if self._is_answered:
            self._send_refusal(error)
        else:
            self._refusal = error

    def _send_refusal(self, error: RequestError, *, is_counted: bool = False) -> None:
        self._unset_keepalive_if_required()
        if not is_counted:
            self._meters.refused(error.code, error.status)
            if self._settings.access_log:
                fields = {"status": error.status, "problem": error.code}
                log.info("refused before routing: %d %s", error.status, error.code, extra=fields)
        body = problem_bytes(error.problem())
        head = [
            STATUS_LINE[error.status],
            b"content-type: " + PROBLEM_JSON.encode() + b"\r\n",
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()


def protocol_for(settings: Settings, meters: Meters) -> Callable[..., Protocol]:
    """Return the protocol factory for `http=` of uvicorn's configuration."""
    return partial(Protocol, settings=settings, meters=meters, turns=Turns())
