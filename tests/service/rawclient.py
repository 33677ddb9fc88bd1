"""Requests byte by byte: a client that stops in the middle of one, goes on, or leaves."""

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 60.0  # only a failing test waits so long


@dataclass(frozen=True)
class Reply:
    """One whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of the problem."""
        return str(json.loads(self.body)["code"])


class RawClient:
    """One connection to the service."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)

    def send_head(self, path: str, length: int, *, expect: bool = False) -> None:
        """The request line and the headers of a POST with a body of `length` bytes."""
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
        self._socket.sendall("\r\n".join([*lines, *["Expect: 100-continue"] * expect, "", ""]).encode())

    def take_a_place(self, path: str, length: int) -> None:
        """A POST up to its body. The service has let it in when it says "100 Continue": it wants the body now."""
        self.send_head(path, length, expect=True)
        assert self._socket.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self) -> Reply:
        """The answer, all of it."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        assert len(reply.body) == int(reply.headers["content-length"])
        return reply

    def leave(self) -> None:
        """Hangs up at once, as a process that is killed does with unread data."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def post(port: int, path: str, body: bytes, **headers: str) -> Reply:
    """One POST on a connection of its own."""
    return ask(port, "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})


def get(port: int, path: str) -> Reply:
    """One GET on a connection of its own."""
    return ask(port, "GET", path, None, {})


def ask(port: int, method: str, path: str, body: bytes | None, headers: dict[str, Any]) -> Reply:
    """One request on a connection of its own; an answer that ends early is a ConnectionError, as a reset is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    except http.client.HTTPException as error:  # IncompleteRead is no OSError
        raise ConnectionError(f"no whole answer: {error!r}") from error
    finally:
        connection.close()
