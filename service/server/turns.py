"""Turns of requests: few start in each step of the event loop, and none while its client does not read.

uvicorn starts a request as soon as it is parsed, and the next one of a connection as soon as the last one is answered,
read or not. So some hundred connections with 16 requests each kept everybody else waiting until all of them were
answered: a new connection is accepted in a step of its own, and each step answered a request of every connection.
"""

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.http.sent import by_name
from service.server.one_write import OneWrite

_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})  # what uvicorn's middleware for proxies looks for
_AT_ONCE = 4  # requests; each takes up to a millisecond until it first waits for something
_NEVER_WAITS = "/health/"


class Turns:
    """A queue of calls, of which each step of the event loop makes a few, between two looks at all sockets."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._step_s, self._started = 0.0, 0  # time of the present step, and calls that did not wait in it

    def may_start(self, now_s: float) -> bool:
        """Count a call that would not wait, and return whether it need not.

        Args:
            now_s: Time of the event loop, which stands still during a step.
        """
        if now_s != self._step_s:
            self._step_s, self._started = now_s, 0
        self._started += 1
        return self._started <= _AT_ONCE and not self._waiting

    def add(self, call: Callable[[], None]) -> None:
        """Add a call to the end of the queue."""
        self._waiting.append(call)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            loop.call_soon(self._waiting.popleft())
        if self._waiting:
            loop.call_soon(self._next)


class InTurn(HttpToolsProtocol):
    """uvicorn's protocol, whose requests wait for their turn, and pipelined ones for the client to read, too.

    Args:
        turns: The queue of all connections.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: declared so by uvicorn
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        turns: Turns,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._turns = turns
        self._app_behind_proxy = self.app
        self._app = self.app.app if isinstance(self.app, ProxyHeadersMiddleware) else self.app
        self._next: tuple[RequestResponseCycle, ASGI3Application] | None = None  # waits for its turn
        self._running: RequestResponseCycle | None = None  # started last

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request, too, that its client has left: uvicorn tells only the one parsed last."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._next = self._running = None
        super().connection_lost(exc)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Start a request, if no earlier one of the connection is unanswered.

        uvicorn's own method makes requests of its own class, and sends each through its middleware for proxies.

        Raises:
            HttpParserInvalidURLError: The target of the request is no address.
        """
        scope, target = self.scope, httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope["method"] = self.parser.get_method().decode("ascii")
        if (version := self.parser.get_http_version()) != "1.1":
            scope["http_version"] = version
        scope["path"] = self.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + target.path
        scope["query_string"] = target.query or b""
        fields = by_name(scope)  # type: ignore[arg-type]  # a TypedDict
        app = self._app if _FORWARDED.isdisjoint(fields) else self._app_behind_proxy
        earlier = self.cycle
        self.cycle = OneWrite(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            fields.get(b"expect", b"").lower() == b"100-continue",
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            if scope["path"].startswith(_NEVER_WAITS) or self._turns.may_start(self.loop.time()):
                self._running = self.cycle
                super()._start_asgi_task(self.cycle, app)
            else:
                self._start_asgi_task(self.cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait_for_turn()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request in its turn."""
        self._next = cycle, app
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if self._next is not None and not self.flow.write_paused:
            self._turns.add(self._start_next)

    def _start_next(self) -> None:
        if self._next is None or self.flow.write_paused:  # it has started, or `resume_writing` follows
            return
        cycle, app = self._next
        self._next, self._running = None, cycle
        super()._start_asgi_task(cycle, app)
