"""Clients that do not read: their pipelined requests wait, and those of all connections take turns."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from service.server.connection import Protocol, protocol_for
from service.server.process import listen
from service.server.turns import Turns
from service.settings import Settings
from service.telemetry.counters import Meters

STEPS = 50  # of the event loop: more than all requests of a test take


class Transport(asyncio.Transport):
    """A connection whose client reads when the test says so."""

    def __init__(self, protocol: Protocol, *, is_read: bool) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._protocol = protocol
        self._is_read = is_read
        self.is_closed = False
        self.reads = True
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_read:
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class App:
    """Answers with nothing, and notes which connection has asked."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.has_left = asyncio.Event()
        self.waits = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started.append(scope["path"])
        while self.waits:
            if (await receive())["type"] == "http.disconnect":
                self.has_left.set()
                return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


Connect = Callable[..., tuple[Protocol, Transport]]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def connect(app: App, tmp_path: Path) -> Connect:
    config = Config(app, http="httptools", ws="none", log_config=None, access_log=False)
    config.load()
    protocol, state = protocol_for(Settings(models_dir=tmp_path), Meters()), ServerState()

    def make(*, is_read: bool = True) -> tuple[Protocol, Transport]:
        made = protocol(config, state, {})
        return made, Transport(made, is_read=is_read)

    return make


def pipelined(name: str, count: int) -> bytes:
    return f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * count


async def steps() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0)


def test_a_few_requests_of_all_connections_start_in_a_step(
    app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(
            asyncio.get_running_loop(), "time", lambda: 1.0
        )  # as uvloop's, which stands still in a step
        names = [f"{i}" for i in range(10)]
        for name in names:
            protocol, _ = connect()
            protocol.data_received(pipelined(name, 3))
        counts = [0]
        for _ in range(STEPS):
            await asyncio.sleep(0)
            counts.append(len(app.started))

        assert app.started == [f"/{name}" for name in names] * 3
        assert max(after - before for before, after in itertools.pairwise(counts)) <= 4

    asyncio.run(test())


def test_health_does_not_wait_for_its_turn(app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1.0)
        for i in range(10):
            protocol, _ = connect()
            protocol.data_received(pipelined(f"{i}", 1))
        protocol, _ = connect()
        protocol.data_received(pipelined("health/live", 1))

        await asyncio.sleep(0)

        assert "/health/live" in app.started
        assert len(app.started) < 10

    asyncio.run(test())


def test_a_pipelined_request_waits_until_its_client_reads(app: App, connect: Connect) -> None:
    async def test() -> None:
        protocol, transport = connect(is_read=False)
        protocol.data_received(pipelined("a", 3))
        await steps()
        assert len(app.started) == 1

        protocol.resume_writing()
        await steps()

        assert len(app.started) == 2
        transport.close()
        protocol.connection_lost(None)
        await steps()
        assert len(app.started) == 2

    asyncio.run(test())


def test_a_running_request_learns_that_its_client_has_left_also_before_pipelined_ones(
    app: App, connect: Connect
) -> None:
    async def test() -> None:
        app.waits = True
        protocol, transport = connect()
        protocol.data_received(pipelined("a", 3))
        await steps()

        transport.close()
        protocol.connection_lost(ConnectionResetError())
        await asyncio.wait_for(app.has_left.wait(), timeout=60)

        assert app.started == ["/a"]

    asyncio.run(test())


def test_the_kernel_takes_little_of_an_answer_that_nobody_reads() -> None:
    with listen("127.0.0.1", 0) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)

            taken = connection.send(bytes(2**23))

    assert taken < 2**19


def test_a_turn_that_fails_does_not_end_the_others() -> None:
    made: list[str] = []

    def fail() -> None:
        raise ValueError("of one connection")

    async def take_turns() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: made.append(str(context["exception"])))
        turns = Turns()
        turns.add(fail)
        turns.add(lambda: made.append("next"))
        for _ in range(STEPS):
            await asyncio.sleep(0)

    asyncio.run(take_turns())

    assert made == ["of one connection", "next"]


def test_of_a_body_that_nobody_wants_one_piece_is_read_in_a_step(app: App, connect: Connect) -> None:
    async def test() -> None:
        protocol, transport = connect()
        protocol.data_received(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        await steps()  # it is answered, and its body is thrown away

        protocol.data_received(bytes(2**18))

        assert not transport.reads
        await steps()
        assert transport.reads
        protocol.data_received(bytes(100))
        assert transport.reads  # a small piece keeps nobody waiting

    asyncio.run(test())


def test_a_body_of_tiny_chunks_is_parsed_in_steps(app: App, connect: Connect) -> None:
    async def test() -> None:
        protocol, transport = connect()
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        protocol.data_received(head + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n" + pipelined("b", 1))

        assert not transport.reads
        assert len(protocol.cycle.body) < 1_000
        await steps()
        assert transport.reads
        assert app.started == ["/a", "/b"]

    asyncio.run(test())
