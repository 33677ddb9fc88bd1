"""The head of an answer and the start of its body in one system call, which are two of uvicorn's.

For a small model, a call costs as much as a fifth of all else; see `python -m benchmarks.http before`.
"""

import asyncio

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # uvicorn's, before the head of the answer
_JOINED_BYTES = 2**16  # copying more costs as much as a call


class OneWrite:
    """The transport of one answer with a body, which holds the head back until the body starts, as ASGI has it.

    It does not know the request: a cycle of both would keep the body until the next garbage collection.

    Args:
        transport: Transport of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self._head: bytes | None = None
        self._is_sent = False

    def write(self, data: bytes) -> None:
        """Send data: the head with the start of the body, then each part by itself."""
        if self._is_sent or data == _CONTINUE:
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        elif len(data) <= _JOINED_BYTES:
            self._is_sent = True
            self._transport.write(b"".join((self._head, data)))
        else:
            self._is_sent = True
            self._transport.writelines((self._head, data))

    def close(self) -> None:
        """Send a head without a body, as after an error, and close the connection."""
        if self._head is not None and not self._is_sent:
            self._transport.write(self._head)
        self._transport.close()
