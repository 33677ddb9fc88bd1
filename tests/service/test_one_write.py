"""A whole answer leaves in one call; any other as uvicorn sends it, with its head at the start of its body."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from service.server.connection import protocol_for
from service.server.one_write import OneWrite
from service.settings import Settings
from service.telemetry.counters import Meters

LINE = b"HTTP/1.1 200 OK\r\n"


class Kept:
    """A transport that keeps what each call sends."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(bytes(data))

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.calls.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str) -> object:
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000)}.get(name)


class Asked:
    """A request whose answer is watched."""

    def __init__(self, *, method: str = "POST", keep_alive: bool = True) -> None:
        self.kept, self.answered = Kept(), 0
        transport, log = cast("asyncio.Transport", self.kept), logging.getLogger("test")
        scope: Any = {"method": method, "http_version": "1.1"}
        self.flow = FlowControl(transport)
        self.cycle = OneWrite(
            scope,
            transport,
            self.flow,
            log,
            log,
            False,
            [(b"date", b"now")],
            asyncio.Event(),
            True,
            keep_alive,
            self.count,
        )

    def count(self) -> None:
        self.answered += 1

    def send(self, *messages: dict[str, Any]) -> None:
        async def send() -> None:
            for message in messages:
                await self.cycle.send(cast("ASGISendEvent", message))

        asyncio.run(send())


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes | memoryview = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


HEAD = LINE + b"date: now\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize("data", [b"", b"body", b"HTTP/1.1 200 OK\r\n\r\n", memoryview(b"view"), b"x" * 2**17])
def test_a_whole_answer_is_one_call(data: bytes | memoryview) -> None:
    asked = Asked()

    asked.send(start(length(len(data))))
    assert asked.kept.calls == []
    asked.send(body(data))

    assert asked.kept.calls == [HEAD % len(data) + bytes(data)]
    assert asked.cycle.response_complete
    assert not asked.cycle.waiting_for_100_continue
    assert asked.answered == 1
    assert not asked.kept.is_closed


def test_a_head_without_its_length_is_sent_in_chunks() -> None:
    asked = Asked()
    asked.send(start(), body(b"a", more=True), body(b"b"))
    assert asked.kept.calls == [
        LINE + b"date: now\r\ntransfer-encoding: chunked\r\n\r\n",
        b"1\r\na\r\n",
        b"1\r\nb\r\n0\r\n\r\n",
    ]


def test_an_answer_in_pieces_is_sent_in_pieces() -> None:
    asked = Asked()
    asked.send(start(length(2)), body(b"a", more=True), body(b"b"))
    assert asked.kept.calls == [HEAD % 2, b"a", b"b"]


def test_head_has_no_body() -> None:
    asked = Asked(method="HEAD")
    asked.send(start(length(4)), body(b"body"))
    assert b"".join(asked.kept.calls) == HEAD % 4


@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_answer_that_ends_the_connection_closes_it(*, keep_alive: bool) -> None:
    asked = Asked(keep_alive=keep_alive)

    asked.send(start(length(1), *([(b"connection", b"close")] if keep_alive else [])), body(b"a"))

    assert b"connection: close\r\n" in asked.kept.calls[0]
    assert asked.kept.is_closed


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0", b"\x7f"])
def test_a_header_with_controls_is_never_sent(value: bytes) -> None:
    asked = Asked()
    with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
        asked.send(start(length(1), (b"x-name", value)), body(b"a"))
    assert asked.kept.calls == []


@pytest.mark.parametrize("declared", [1, 9])
def test_a_wrong_length_is_an_error(declared: int) -> None:
    with pytest.raises(RuntimeError, match="Content-Length"):
        Asked().send(start(length(declared)), body(b"body"))


def test_an_error_before_the_body_is_answered_instead() -> None:
    asked = Asked()
    asked.send(start(length(4)), start(length(0), status=500), body(b""))
    assert asked.kept.calls[0].startswith(b"HTTP/1.1 500 ")


def test_a_client_that_left_is_sent_nothing() -> None:
    asked = Asked()
    asked.send(start(length(4)))
    asked.cycle.disconnected = True

    asked.send(body(b"body"))

    assert (asked.kept.calls, asked.answered) == ([], 0)


def test_a_client_that_does_not_read_is_waited_for() -> None:
    asked = Asked()

    async def answer() -> None:
        asked.flow.pause_writing()
        await asked.cycle.send(cast("ASGISendEvent", start(length(1))))
        sending = asyncio.create_task(asked.cycle.send(cast("ASGISendEvent", body(b"a"))))
        await asyncio.sleep(0)
        assert asked.kept.calls == []
        asked.flow.resume_writing()
        await sending

    asyncio.run(answer())

    assert b"".join(asked.kept.calls) == HEAD % 1 + b"a"


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        (b"", ("http", "127.0.0.1")),
        (b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n", ("https", "192.0.2.7")),
        (b"X-Forwarded-Proto: https\r\n", ("https", "127.0.0.1")),
        (b"x-forwarded-for: 192.0.2.7\r\n", ("http", "192.0.2.7")),
    ],
)
def test_a_proxy_on_this_machine_says_who_asks(headers: bytes, seen: tuple[str, str]) -> None:
    """Requests pass uvicorn's middleware for proxies only if they have such a header."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def ask() -> None:
        config, kept = Config(app), Kept()
        protocol = protocol_for(Settings(), Meters())(config, ServerState(), {})
        protocol.connection_made(cast("asyncio.Transport", kept))
        protocol.data_received(b"GET /a%20b?c HTTP/1.1\r\n" + headers + b"\r\n")
        while not kept.calls:
            await asyncio.sleep(0)
        protocol.connection_lost(None)

    asyncio.run(ask())

    (scope,) = scopes
    assert (scope["scheme"], scope["client"][0]) == seen
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c")
