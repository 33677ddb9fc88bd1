"""A whole answer in one system call, and in less Python: uvicorn sends its head and its body one by one.

For a small model, a call costs as much as a fifth of all else; see `python -m benchmarks.http before`.
"""

from uvicorn._types import ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_JOINED_BYTES = 2**16  # copying more costs as much as a call
_CONTROLS = bytes([*range(9), *range(10, 32), 127])  # no header has them; uvicorn says which one is wrong
_field = b": ".join


class OneWrite(RequestResponseCycle):
    """uvicorn's request and its answer, which leaves in one piece if it comes whole, with its length.

    The head of every answer waits for the start of its body. All other answers are sent by uvicorn.
    """

    _head: HTTPResponseStartEvent | None = None  # waits for the body

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of an answer. A second head replaces the first, if the body has not begun."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._head = message
            return
        if (head := self._head) is not None:
            self._head = None
            if self._is_sent_whole(head, message):  # type: ignore[arg-type]  # a body follows a head
                return
            await super().send(head)
        await super().send(message)

    def _is_sent_whole(self, head: HTTPResponseStartEvent, message: HTTPResponseBodyEvent) -> bool:
        """Send an answer if it is a usual one, and return whether it was."""
        body, fields = message.get("body", b""), [*self.default_headers, *head.get("headers", ())]
        value_by_name = dict(fields)
        lines = b"\r\n".join(map(_field, fields))
        if (
            message.get("more_body", False)
            or value_by_name.get(b"content-length") != b"%d" % len(body)
            or b"connection" in value_by_name
            or b"transfer-encoding" in value_by_name
            or len(lines.translate(None, _CONTROLS)) != len(lines) - 2 * len(fields) + 2
            or not self.keep_alive
            or self.flow.write_paused
            or self.disconnected
            or self.scope["method"] == "HEAD"
        ):
            return False
        parts = STATUS_LINE[head["status"]], lines, b"\r\n\r\n", body
        if len(body) <= _JOINED_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.message_event.set()
        self.on_response()
        return True
