"""How long a connection stays open between two requests, on a clock that the test sets."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from uvicorn.server import ServerState

from service.api.app import create_app
from service.server.connection import protocol_for
from service.server.process import uvicorn_config
from service.settings import Settings

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER_END = b'{"status":"alive"}'


class Clock(asyncio.SelectorEventLoop):
    """An event loop that can be moved forward."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    async def skip(self, seconds: float) -> None:
        """Move forward, and run the timers that are due."""
        self.skipped_s += seconds
        for _ in range(5):  # a timer, the end of the connection, and the client that learns of it
            await asyncio.sleep(0)


async def connected(
    settings: Settings, visit: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> None:
    """Connect to a service of these settings in this event loop, and run `visit` with the connection."""
    loop = asyncio.get_running_loop()
    app = create_app(settings)
    config, protocol = uvicorn_config(settings, app), protocol_for(settings, app.service.metrics.meters)
    config.load()
    state = ServerState()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await visit(reader, writer)
        writer.close()


@pytest.mark.parametrize(("settings", "seconds"), [({}, 75), ({"keep_alive_s": 500}, 500)])
def test_a_connection_stays_open_between_requests_for_keep_alive_s(
    tmp_path: Path, settings: dict[str, float], seconds: float
) -> None:
    clock = Clock()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(REQUEST)
            assert (await reader.readuntil(ANSWER_END)).startswith(b"HTTP/1.1 200 ")
            await clock.skip(0.8 * seconds)

        await clock.skip(0.3 * seconds)

        assert await reader.read() == b""

    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        runner.run(connected(Settings.model_validate({"models_dir": tmp_path, **settings}), visit))
