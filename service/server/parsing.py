"""Bounded parsing of a connection: limited pipelining, and limited heads.

uvicorn parses everything that a read returns. Here at most `_MAX_AHEAD` pipelined requests are parsed ahead of their
answers, and the rest waits in the socket. Offers of another protocol are declined. A head has at most
`max_header_bytes`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.errors import HeadersTooLarge, MalformedRequest, RequestError
from service.http.sent import BY_NAME
from service.server.turns import InTurn, Turns
from service.settings import Settings

# A read returns up to 256 KiB. Parsed at once, these may be 14,000 small requests that take 3 KiB each. So it is parsed
# in pieces, and parsing pauses while this many requests wait: parsing 16 takes longer than starting one. A body of
# known length is one piece, and so is a short read with one version in it, since every head has one.
_MAX_AHEAD = 1
_PIECE_BYTES = 512
_STEP_BYTES = 2**12  # of heads and chunks, parsed in a step of the event loop: chunks of a byte take 7 ms
# After a read of this much, the others have their turn: libuv would read 32 times, 8 MiB of each busy connection.
_LARGE_READ = 2**16
_SHORT_BYTES = 4096
_VERSION_SIGN = b"/1."
_VERSIONS = {"1.0", "1.1"}  # the parser accepts 0.9 and 2.0, too, but their clients do not understand HTTP/1.1


class _Flow(FlowControl):
    """uvicorn's flow control, which resumes reading only when `has_room()`."""

    def __init__(self, transport: asyncio.Transport, has_room: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._has_room = has_room

    def resume_reading(self) -> None:
        if self._has_room():
            super().resume_reading()


class BoundedParsing(InTurn):
    """uvicorn's protocol with bounds on what it parses.

    Args:
        settings: Settings; `max_header_bytes` is used.
        turns: Turns of pipelined requests.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: declared so by uvicorn
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        turns: Turns,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, turns=turns)
        self._settings = settings
        self._max_head_bytes = settings.max_header_bytes
        self.url = b""
        self._reads: str | None = "head"  # what is being received: "head", "body", or None while a request is answered
        self._silent_bytes = 0  # bytes fed since a head or a piece of a body ended: an unfinished head, or trailers
        self._news_bytes = 0  # bytes being fed, which count as silent unless something ends in them
        self._earlier: RequestResponseCycle | None = None  # the request before `cycle`
        self._refusal: RequestError | None = None  # sent after the earlier answers; parsing has ended
        self._is_last = False  # parsing has ended, after CONNECT
        self._unparsed = b""  # data received while `_MAX_AHEAD` requests wait
        self._is_half_closed = False  # the client sends nothing after `_unparsed`
        self._body_left = 0  # bytes left of a body of declared length
        self._is_replaying = False  # parsing a head for the second time, see `_decline_upgrade`

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = _Flow(transport, self._has_room)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unparsed += data
        self._parse()
        if len(data) >= _LARGE_READ and not self.flow.read_paused:
            self.flow.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _parse(self) -> None:
        """Feed the parser up to the limit of waiting requests, then set the timeout for the missing part."""
        data, self._unparsed, position = self._unparsed, b"", 0
        is_one_piece = len(data) <= _SHORT_BYTES and data.count(_VERSION_SIGN) <= 1
        while position < len(data):
            if position >= _STEP_BYTES and self._body_left <= 0:
                self._unparsed = data[position:]
                self.flow.pause_reading()
                self.loop.call_soon(self._parse_on)
                break
            if self.transport.is_closing() or self._refusal is not None or self._is_last:
                return
            if len(self.pipeline) >= _MAX_AHEAD:
                self._unparsed = data[position:]
                self.flow.pause_reading()
                break
            length = _SHORT_BYTES if is_one_piece else max(_PIECE_BYTES, self._body_left)
            position += self._feed(data[position : position + length])
        if self._is_half_closed and not self._unparsed:
            self._end_after_this()
        self._set_timer()

    def _parse_on(self) -> None:
        if self._unparsed and len(self.pipeline) < _MAX_AHEAD and not self.transport.is_closing():
            self._parse()
            self.flow.resume_reading()

    def _feed(self, piece: bytes) -> int:
        """Parse some bytes and return how many were parsed."""
        self._news_bytes = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            if self.scope["method"] == "CONNECT":  # the bytes that follow are not HTTP
                self._is_last = True
                self.cycle.keep_alive = False
                return len(piece)
            self._decline_upgrade()
            parsed: int = offer.args[0]
            return parsed
        except httptools.HttpParserError as error:
            cause = error.__context__  # an error of our callbacks
            self._refuse(cause if isinstance(cause, RequestError) else MalformedRequest(f"this is not HTTP: {error}"))
            return len(piece)
        if self._reads is not None:
            self._silent_bytes += self._news_bytes
            if self._silent_bytes > self._max_head_bytes:
                self._refuse(self._too_large())
            elif self.url and piece.endswith(b"\n") and self.parser.get_http_version() == "0.0":
                self._refuse(_other_version("0.9"))  # a line without a version is HTTP/0.9
        return len(piece)

    def _decline_upgrade(self) -> None:
        """Continue in HTTP/1.1, ignoring the offered protocol (RFC 9110, 7.8).

        The parser skips the body of a request with an offer. So it parses the same head again, without the offer and
        without callbacks: the request has been started, and its body follows.
        """
        request = self.scope
        lines = [f"{request['method']} / HTTP/{request['http_version']}".encode()]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        kept, self.headers, self._is_replaying = self.headers, [], True
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        self.headers = kept

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        self._reads = "head"
        self._silent_bytes = self._body_left = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            self._is_replaying = False
            return
        if (version := self.parser.get_http_version()) not in _VERSIONS:
            raise _other_version(version)
        if self._silent_bytes + self._news_bytes > self._max_head_bytes and self._head_bytes > self._max_head_bytes:
            raise self._too_large()  # ends the parser
        self._hear()
        self._earlier = self.cycle
        super().on_headers_complete()  # raises for an invalid target, while this is still a head
        # The parser refuses a length that is no number.
        self._body_left = int(self.scope[BY_NAME].get(b"content-length") or 0)  # type: ignore[literal-required]  # ours
        self._reads = "body"

    def on_body(self, body: bytes) -> None:
        self._hear()
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self.scope["method"] != "CONNECT":
            return  # not complete yet: `_decline_upgrade` follows
        self._reads = None
        self._hear()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unparsed:
            self._parse()
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest(msg))

    def _refuse(self, error: RequestError) -> None:
        """Answer with a problem document and close the connection."""
        raise NotImplementedError

    def _set_timer(self) -> None:
        """Set the timeout for the part of a request that has not arrived."""
        raise NotImplementedError

    def _end_after_this(self) -> None:
        if self._reads is not None:  # its rest will never arrive
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _has_room(self) -> bool:
        """Whether the parser can continue: nothing is buffered, and no body of a waiting request is held back."""
        return not self._unparsed and not (self.pipeline and len(self.cycle.body) > HIGH_WATER_LIMIT)

    def _hear(self) -> None:
        # The rest of the piece does not count as silent; its header lines still count towards the head.
        self._news_bytes = self._silent_bytes = 0

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"the request line and headers exceed {self._max_head_bytes} bytes (setting max_header_bytes)"
        )


def _other_version(version: str) -> MalformedRequest:
    return MalformedRequest(f"this is HTTP/{version}; send HTTP/1.1")
