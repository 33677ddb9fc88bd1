"""Turns of pipelined requests: one in each step of the event loop, and none while its client does not read.

uvicorn starts the next request of a connection as soon as the last one is answered, read or not. So some hundred
connections with 16 requests each kept everybody else waiting until all of them were answered: a new connection is
accepted in a step of its own, and each step answered a request of every connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


class Turns:
    """A queue of calls, of which each step of the event loop makes one, between two looks at all sockets."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Add a call to the end of the queue."""
        self._waiting.append(call)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        try:
            self._waiting[0]()
        finally:  # the others have their turn, whatever became of this one
            self._waiting.popleft()
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._next)


class InTurn(HttpToolsProtocol):
    """uvicorn's protocol, whose pipelined requests wait for their turn and for the client to read.

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
        self._is_parsing = False  # the head of a request, which starts now if no earlier one is unanswered
        self._next: tuple[RequestResponseCycle, ASGI3Application] | None = None  # waits for its turn
        self._running: RequestResponseCycle | None = None  # started last

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request, too, that its client has left: uvicorn tells only the one parsed last."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._next = self._running = None
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._is_parsing = True
        try:
            super().on_headers_complete()
        finally:
            self._is_parsing = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait_for_turn()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._is_parsing:
            self._running = cycle
            super()._start_asgi_task(cycle, app)
        else:
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
