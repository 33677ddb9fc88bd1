"""One connection: how long it may take over a request, and how large its headers may be.

uvicorn waits for ever for headers, bodies and readers. This protocol gives each its time:

    connect -> [ header_timeout_s ] -> headers -> [ body_timeout_s ] -> body -> (admission's deadline) -> answer
       ^                                                                                                    |
       +--------------------------------- [ idle: keep_alive_s ] ------------------------------------------+

Requests that a client sends before it has its answers are parsed `_MAX_AHEAD` ahead; the rest waits in the socket.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.errors import PROBLEM_JSON, HeadersTooLarge, MalformedRequest, RequestError, RequestTimeout, problem_bytes
from service.http.instrument import REFUSED
from service.settings import Settings
from service.telemetry.counters import Meters

log = logging.getLogger("service.requests")

# A client that has closed its sending half may be gone or may be waiting. Only a write tells: one that is gone answers
# it with a reset. An interim response is a write that any HTTP/1.1 client ignores (RFC 9110, 15.2).
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBE_INTERVAL_S = 1.0

# A read brings up to 256 KiB. Parsed at once, that is 14,000 small requests of some 3 KiB each; so it is parsed in
# pieces, and no piece while this many requests wait. A body of known length is one piece.
_MAX_AHEAD = 16
_PIECE_BYTES = 512
_VERSIONS = {"1.0", "1.1"}  # the parser takes 0.9 and 2.0, too, and answering those in HTTP/1.1 helps nobody


class _Flow(FlowControl):
    """uvicorn's flow control, which resumes reading only when there is room for what comes."""

    def __init__(self, transport: asyncio.Transport, has_room: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._has_room = has_room

    def resume_reading(self) -> None:
        if self._has_room():
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; everything it refuses itself is a problem document, too.

    Args:
        settings: With `header_timeout_s`, `body_timeout_s` and `max_header_bytes`.
        meters: Count what is refused here, before the application sees it.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: as uvicorn declares it
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        meters: Meters,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._meters = meters
        self._reads: str | None = "head"  # what is being received: "head", "body", or None while an answer is made
        self._timed: str | None = None  # what `_timer` gives its time to; set once, so that dripping does not renew it
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # what the parser has told of the head, to the byte
        self._silent_bytes = 0  # fed since the parser last told anything: an unfinished header, or trailers
        self._news_bytes = 0  # of the data being fed, what counts as silent if the parser tells nothing
        self._earlier: RequestResponseCycle | None = None  # the request before `cycle`
        self._refusal: RequestError | None = None  # waits for the answers before it; nothing is parsed any more
        self._is_last = False  # the same after CONNECT
        self._unparsed = b""  # waits until fewer than `_MAX_AHEAD` requests do
        self._is_half_closed = False  # nothing comes after `_unparsed`
        self._body_left = 0  # of a body whose length was declared
        self._is_replaying = False  # a head for the second time, see `_decline_upgrade`

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = _Flow(transport, self._has_room)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_timer()
        self._unset_write_timer()
        self._unparsed = b""
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Feed the parser as far as requests may wait, then see what is still to come and give it its time."""
        data, self._unparsed, position = self._unparsed, b"", 0
        while position < len(data):
            if self.transport.is_closing() or self._refusal is not None or self._is_last:
                return
            if len(self.pipeline) >= _MAX_AHEAD:
                self._unparsed = data[position:]
                self.flow.pause_reading()
                break
            piece = data[position : position + max(_PIECE_BYTES, self._body_left)]
            position += self._feed(piece)
        if self._is_half_closed and not self._unparsed:
            self._end_after_this()
        self._set_timer()

    def _feed(self, piece: bytes) -> int:
        """Parse some bytes, and return how many were parsed."""
        self._news_bytes = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            if self.scope["method"] == "CONNECT":  # what follows is of no protocol of ours
                self._is_last = True
                self.cycle.keep_alive = False
                return len(piece)
            self._decline_upgrade()
            parsed: int = offer.args[0]
            return parsed
        except httptools.HttpParserError as error:
            cause = error.__context__  # of our own callbacks
            self._refuse(cause if isinstance(cause, RequestError) else MalformedRequest(f"this is not HTTP: {error}"))
            return len(piece)
        if self._reads is not None:
            self._silent_bytes += self._news_bytes
            if self._is_too_large:
                self._refuse(self._too_large())
            elif self._head_bytes and piece.endswith(b"\n") and self.parser.get_http_version() == "0.0":
                self._refuse(_other_version("0.9"))  # a line without a version, which is all that HTTP/0.9 sends
        return len(piece)

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1 as if no other protocol had been offered (RFC 9110, 7.8).

        The parser skips the body behind an offer. So it gets the same head again, without the offer, and tells us
        nothing of it that we know: the request was started, and its body is what comes next.
        """
        request = self.scope
        lines = [f"{request['method']} / HTTP/{request['http_version']}".encode()]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._is_replaying = True
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        self._reads = "head"
        self._head_bytes = self._silent_bytes = self._body_left = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_replaying:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_replaying:
            return
        self._count(len(name) + len(value) + 4)
        if name.lower() == b"content-length":
            self._body_left = int(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            self._is_replaying = False
            return
        if (version := self.parser.get_http_version()) not in _VERSIONS:
            raise _other_version(version)
        self._hear()
        self._earlier = self.cycle
        super().on_headers_complete()  # raises where the target is none: still a broken head then
        self._reads = "body"

    def on_body(self, body: bytes) -> None:
        self._hear()
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self.scope["method"] != "CONNECT":
            return  # not complete: `_decline_upgrade` follows
        self._reads = None
        self._hear()
        self._unset_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.flow.write_paused:
            self._unset_write_timer()
        if self._refusal is not None and self._is_answered and not self.transport.is_closing():
            self._send_refusal(self._refusal)
        if self._unparsed:
            self._parse()
            self.flow.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks: keep the sending half open?
        """A client that has sent its whole request and closed its sending half still gets its answer."""
        if self._unparsed:
            self._is_half_closed = True
        elif self._reads is not None or self._is_answered:
            return False
        else:
            self._end_after_this()
        self._unset_timer()
        self._timer = self.loop.call_later(_PROBE_INTERVAL_S, self._probe)
        return True

    def _end_after_this(self) -> None:
        if self._reads is not None:  # and the rest of it will never be there
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """The client does not read its answer: give it the time that a body may take."""
        super().pause_writing()
        if self._write_timer is None:  # reading a little does not renew it
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

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest(msg))

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    @property
    def _is_too_large(self) -> bool:
        return max(self._head_bytes, self._silent_bytes) > self._settings.max_header_bytes

    def _has_room(self) -> bool:
        """Nothing waits to be parsed, and no body of a request that has not started has been held back."""
        return not self._unparsed and not (self.pipeline and len(self.cycle.body) > HIGH_WATER_LIMIT)

    def _hear(self) -> None:
        # The rest of the piece being fed is not counted as silent, and its header lines still are.
        self._news_bytes = self._silent_bytes = 0

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._is_too_large:
            raise self._too_large()  # ends the parser

    def _too_large(self) -> HeadersTooLarge:
        limit = self._settings.max_header_bytes
        return HeadersTooLarge(f"the request line and headers exceed {limit} bytes (setting max_header_bytes)")

    def _set_timer(self) -> None:
        # Bytes after an answer that begin no request (blank lines) count as a head that does not come.
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
        if is_earlier_unanswered:  # the next request must wait for us, not we for it
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
        """Answer with a problem in the place of the application, which hears that the client has left, and hang up.

        What came before on the connection is answered first.
        """
        self._unset_timer()
        if self._reads == "body":
            if self.pipeline:  # it has not started, and must not: its body will never be there
                self.pipeline.popleft()
                assert self._earlier is not None  # noqa: S101  for the type checker: something made it wait
                self.cycle = self._earlier
            elif self.cycle.response_complete:  # it has had its one answer
                self.transport.close()
                return
            elif self.cycle.response_started:
                self._is_last, self.cycle.keep_alive = True, False
                return
            else:
                self.cycle.scope[REFUSED] = error  # type: ignore[literal-required]  # ours; it is counted there
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
                log.info("refused before its address was looked at: %d %s", error.status, error.code, extra=fields)
        body = problem_bytes(error.problem())
        head = [
            STATUS_LINE[error.status],
            b"content-type: " + PROBLEM_JSON.encode() + b"\r\n",
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()


def _other_version(version: str) -> MalformedRequest:
    return MalformedRequest(f"this is HTTP/{version}; send HTTP/1.1")


def protocol_for(settings: Settings, meters: Meters) -> Callable[..., Protocol]:
    """What makes the protocol of a new connection, as `http=` of uvicorn's configuration."""
    return partial(Protocol, settings=settings, meters=meters)
