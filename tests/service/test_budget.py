"""The budget in bytes and seconds: what requests hold, who finds room, and that an answer is held until it is sent."""

import asyncio
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.errors import QueueFull
from service.http.budget import Budget, Hold, hold_of
from service.http.instrument import Observing
from service.images.npy import write_npy
from service.telemetry.counters import Meters
from tests.service.rawclient import RawClient, get, post
from tests.service.slowmodel import Process, flat_png, publish_slow, service_process, until
from tests.service.toymodels import publish_toy

MIB = 2**20


def test_what_is_alone_always_fits_and_no_other_like_it_beside_it_but_small_ones_do() -> None:
    budget = Budget(max_bytes=100, max_seconds=10)
    first, second, small = (Hold(budget, client) for client in "abc")

    first.reserve(bytes=500)
    with pytest.raises(QueueFull, match="max_memory_bytes"):
        second.reserve(bytes=500)
    small.reserve(bytes=20)
    first.free()
    second.reserve(bytes=500)

    assert budget.total.bytes == 70  # a half, and the small one


def test_small_requests_find_room_beside_large_ones() -> None:
    budget = Budget(max_bytes=1000, max_seconds=10)
    large = [Hold(budget, client) for client in "abcdefgh"]

    taken = 0
    for hold in large:
        try:
            hold.reserve(bytes=260, seconds=2.6)
            taken += 1
        except QueueFull:
            pass
    for client in "stuvwxyz":
        Hold(budget, client).reserve(bytes=90, seconds=0.9)

    assert taken == 1  # more than half of the budget is for smaller ones


def test_a_client_among_others_has_half_and_alone_has_all() -> None:
    budget = Budget(max_bytes=1000, max_seconds=10)
    for _ in range(10):
        Hold(budget, "a").reserve(bytes=100)
    with pytest.raises(QueueFull):
        Hold(budget, "a").reserve(bytes=1)

    budget = Budget(max_bytes=1000, max_seconds=10)
    Hold(budget, "b").reserve(bytes=1)
    for _ in range(5):
        Hold(budget, "a").reserve(bytes=100)
    with pytest.raises(QueueFull):
        Hold(budget, "a").reserve(bytes=100)
    Hold(budget, "b").reserve(bytes=100)


def test_work_that_cannot_be_done_in_time_does_not_keep_others_out() -> None:
    budget = Budget(max_bytes=1000, max_seconds=30)
    Hold(budget, "a").reserve(seconds=1000)

    Hold(budget, "b").reserve(seconds=2)
    with pytest.raises(QueueFull, match="request_timeout_s") as caught:
        Hold(budget, "c").reserve(seconds=20)

    assert 1 <= int(caught.value.headers["Retry-After"]) <= 30


def test_everything_is_given_back() -> None:
    budget = Budget(max_bytes=1000, max_seconds=30)
    holds = [Hold(budget, str(i % 3)) for i in range(9)]
    for i, hold in enumerate(holds):
        hold.reserve(bytes=10 * i, seconds=0.1 * i)
        hold.reserve(seconds=0.7)
        hold.answer(5)
    for hold in holds:
        hold.free()

    Hold(budget, "x").reserve(bytes=10**9, seconds=0)
    assert budget.total.bytes == 500


def test_a_stream_keeps_its_share_until_its_end_and_a_whole_answer_only_its_own_bytes() -> None:
    budget, held = Budget(max_bytes=8 * MIB, max_seconds=30), []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        hold_of(Request(scope)).reserve(bytes=3 * MIB)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
        await send({"type": "http.response.body", "body": bytes(MIB)})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            held.append(budget.total.bytes)

    observing = Observing(app, routers=(), meters=Meters(), budget=budget, is_logging=False)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("a", 1)}
    asyncio.run(observing(scope, never, send))

    assert held == [3 * MIB] * 4 + [MIB] * 4  # in four slices each
    assert budget.total.bytes == 0


async def never() -> Message:
    raise AssertionError


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_slow(directory, sines=1)
    with service_process(directory, "--max-memory-bytes", str(32 * MIB), "--body-timeout-s", "60") as process:
        yield process


def is_idle(process: Process) -> bool:
    return b"hourglass_held_bytes 0.0" in get(process.port, "/metrics").body


def test_bodies_that_do_not_fit_together_are_refused_before_they_are_read(process: Process) -> None:
    until(lambda: is_idle(process))
    waiting = [RawClient(process.port) for _ in range(9)]
    for client in waiting[:8]:
        client.take_a_place("/denoise?model=toy", 4 * MIB - 10_000)
    waiting[8].send_head("/denoise?model=toy", 4 * MIB, expect=True)

    reply = waiting[8].reply()
    small = post(process.port, "/denoise?model=toy", flat_png(4))

    assert (reply.status, reply.code) == (503, "queue-full")
    assert "retry-after" in reply.headers
    assert small.status == 200
    for client in waiting:
        client.close()
    until(lambda: is_idle(process))


def test_a_body_of_unknown_length_is_counted_as_it_comes(process: Process) -> None:
    until(lambda: is_idle(process))
    head = b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", process.port), timeout=60) for _ in range(9)]
    for connection in connections:
        connection.sendall(head)
        for _ in range(61):
            connection.sendall(b"10000\r\n" + b"a" * 2**16 + b"\r\n")

    answered, _, _ = select.select(connections, [], [], 60)
    answers = [connection.recv(65536) for connection in answered]
    for connection in connections:
        connection.close()

    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 503 "]
    until(lambda: is_idle(process))


def test_an_answer_is_held_until_its_client_has_read_it(process: Process) -> None:
    until(lambda: is_idle(process))
    array = write_npy(np.zeros((1, 1, 2000, 1000), np.float32))  # 7.6 MiB, and so is the answer
    head = f"POST /denoise?model=slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(array)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", process.port), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)  # far less than the answer
        connection.sendall(head + array)
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert post(process.port, "/denoise?model=toy", flat_png(4)).status == 200  # the service goes on meanwhile
        metrics = get(process.port, "/metrics").body
        held = re.search(rb"hourglass_held_bytes ([0-9.e+]+)", metrics)
        assert held is not None
        assert float(held[1]) >= len(array) - 1000

        rest = b""
        while len(rest) < len(array):
            rest += connection.recv(2**20)

    assert rest.endswith(bytes(1000))
    until(lambda: is_idle(process))


def test_a_large_answer_arrives_whole(process: Process, tmp_path: Path) -> None:
    until(lambda: is_idle(process))
    values = np.random.default_rng(0).random((1, 1, 700, 900), np.float32)

    reply = post(process.port, "/denoise?model=slow", write_npy(values))

    (tmp_path / "a.npy").write_bytes(reply.body)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values / 2)
