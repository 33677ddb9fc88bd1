"""Connections over real sockets: slow ones are closed, broken ones refused, and the others never notice."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.files import pixels_of
from tests.service.rawclient import RawClient, get
from tests.service.slowmodel import Process, flat_png, publish_slow, service_process, until
from tests.service.toymodels import publish_toy

SMALL = flat_png(4)
HEADER_TIMEOUT_S, BODY_TIMEOUT_S = 1.0, 2.0
PATIENCE_S = 60.0  # how long a busy machine may take over what should be immediate


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_slow(directory)
    limits = (
        "--header-timeout-s",
        str(HEADER_TIMEOUT_S),
        "--body-timeout-s",
        str(BODY_TIMEOUT_S),
        "--keep-alive-s",
        "4",
    )
    with service_process(directory, *limits) as process:
        yield process


def connect(process: Process, start: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_S)
    connection.sendall(start)
    return connection


def answer_in_two(process: Process, start: bytes, rest: bytes) -> bytes:
    """The answer to a request that arrives in two pieces."""
    with connect(process, start) as connection:
        time.sleep(0.2)  # one read of the service for each; if it is too busy for that, the test is only easier
        connection.sendall(rest)
        return everything_from(connection)


def everything_from(connection: socket.socket) -> bytes:
    """What the service sends until it closes; a reset ends it, too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def answer_to(process: Process, request: bytes) -> bytes:
    with connect(process) as connection:
        connection.sendall(request)
        return everything_from(connection)


def drip(connections: list[socket.socket], byte: bytes, seconds: float) -> None:
    """One byte to each, again and again; those that are closed do not take it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(byte)
        time.sleep(0.1)


def peak_bytes(process: Process) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.popen.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def open_files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


def test_slow_headers_dripping_bodies_and_idle_connections_are_closed_and_health_goes_on(process: Process) -> None:
    get(process.port, "/health/live")
    before = open_files(process)
    # Each speaks once connected: opening all of them may take a busy machine longer than the headers have.
    heads = [connect(process, b"POST /denoise HTTP/1.1\r\nX: ") for _ in range(50)]
    start = b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    bodies = [connect(process, start) for _ in range(50)]
    idle = [connect(process) for _ in range(200)]

    drip(heads + bodies, b"a", HEADER_TIMEOUT_S)
    assert get(process.port, "/health/live").status == 200
    drip(heads + bodies, b"a", BODY_TIMEOUT_S)

    answers = [everything_from(body) for body in bodies]
    assert all(answer.startswith(b"HTTP/1.1 408 ") and b"request-timeout" in answer for answer in answers)
    assert {everything_from(connection) for connection in heads + idle} == {b""}
    for connection in heads + bodies + idle:
        connection.close()
    until(lambda: open_files(process) <= before + 1)


def test_an_idle_connection_is_closed_after_an_answer_even_if_it_sends_blank_lines(process: Process) -> None:
    with connect(process) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        drip([connection], b"\r\n", 2 * HEADER_TIMEOUT_S)

        assert everything_from(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_closes_its_sending_half_gets_its_answer(process: Process) -> None:
    image = flat_png(400)  # takes the slow model longer than the first probes
    head = f"POST /denoise?model=slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode()
    with connect(process) as connection:
        connection.sendall(head + image)
        connection.shutdown(socket.SHUT_WR)

        answer = everything_from(connection)

    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in headers
    assert pixels_of(body).shape == (400, 400)


def test_a_client_that_closes_its_sending_half_before_the_body_is_there_is_gone(process: Process) -> None:
    with connect(process) as connection:
        connection.sendall(b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        connection.shutdown(socket.SHUT_WR)

        assert everything_from(connection) in {b"", b"HTTP/1.1 400 Bad Request\r\n"}


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 40_000,  # unfinished
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 8_000 + b"\r\n",
    ],
)
def test_headers_over_their_limit_are_a_431(process: Process, head: bytes) -> None:
    answer = answer_to(process, head)

    assert answer == b"" or (answer.startswith(b"HTTP/1.1 431 ") and b"headers-too-large" in answer)
    # Nothing at all: the service hung up with unread bytes in its buffer, and the reset overtook the answer.


def test_headers_just_under_their_limit_are_taken(process: Process) -> None:
    answer = answer_to(process, b"GET /health/live HTTP/1.1\r\nConnection: close\r\nX: " + b"a" * 32_000 + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
        b"not http at all\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET /\r\n",
        b"GET /health/live\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00B: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : c\r\n\r\n",
        b"POST /denoise HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /denoise HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST /denoise HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /denoise HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /denoise HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_problem_and_the_service_lives_on(process: Process, request_bytes: bytes) -> None:
    answer = answer_to(process, request_bytes)

    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert b"application/problem+json" in answer
    assert b"connection: close" in answer.lower()
    assert get(process.port, "/health/live").status == 200


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n",
    b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nUpgrade: foo/2\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 40])
def test_a_body_behind_an_offer_to_switch_protocols_is_read_in_http_1(
    process: Process, offer: bytes, is_chunked: bool, pieces: int
) -> None:
    image = flat_png(4)
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(image)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(image), image) if is_chunked else image
    request = b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\n" + offer + framing + b"\r\n\r\n" + body
    request += b"GET /health/live HTTP/1.1\r\n" + offer + b"\r\n"  # nothing of the first is lost or left behind
    request += b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n"

    with connect(process) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(request) // pieces)
        for start in range(0, len(request), size):
            connection.sendall(request[start : start + size])
            time.sleep(0.01 if pieces > 1 else 0)
        answer = everything_from(connection)

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"404"]
    headers, _, rest = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", headers)
    assert length is not None
    assert (pixels_of(rest[: int(length[1])]) == 50).all()


def test_a_put_behind_an_offer_keeps_its_json(process: Process) -> None:
    body = b'{"latent":[1,2,3,4]}'
    head = b"PUT /collections/upgraded/items/a?model=toy HTTP/1.1\r\nContent-Type: application/json\r\n" + OFFERS[0]

    answer = answer_in_two(process, head + b"Content-Length: %d\r\n\r\n" % len(body), body)

    assert answer.startswith(b"HTTP/1.1 201 "), answer


def test_a_broken_body_behind_an_offer_is_refused(process: Process) -> None:
    head = b"POST /denoise?model=toy HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + OFFERS[0] + b"\r\n"

    answer = answer_in_two(process, head, b"zz\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_asked_for(process: Process) -> None:
    with RawClient(process.port) as client:
        client.send_head("/denoise?model=toy", 2**31, expect=True)

        reply = client.reply()

    assert (reply.status, reply.code) == (413, "body-too-large")


def test_pipelined_requests_are_answered_in_order(process: Process) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    answer = answer_to(process, one + one + last)

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"404"]


def test_of_many_pipelined_requests_few_are_parsed_ahead_and_all_are_answered(process: Process) -> None:
    one = b"GET /health/live HTTP/1.1\r\n\r\n"
    count = 300_000 // len(one)
    image = flat_png(1000)  # takes the slow model long; meanwhile the others wait
    slow = b"POST /denoise?model=slow HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(image) + image

    with connect(process) as connection:
        sender = threading.Thread(target=connection.sendall, args=(slow + one * count,))
        sender.start()
        time.sleep(0.3)
        before = peak_bytes(process)
        answer = b""
        while answer.count(b"alive") < count:
            part = connection.recv(65536)
            assert part
            answer += part
        sender.join()

    assert answer.count(b"HTTP/1.1 200 ") == count + 1
    assert peak_bytes(process) - before < 2**25  # parsed at once, they take some 40 MiB


def test_pipelined_requests_of_a_client_that_closed_its_sending_half_are_all_answered(process: Process) -> None:
    one = b"GET /health/live HTTP/1.1\r\n\r\n"
    with connect(process, one * 500) as connection:
        connection.shutdown(socket.SHUT_WR)

        assert everything_from(connection).count(b"HTTP/1.1 200 ") == 500


def test_headers_under_their_limit_are_taken_in_two_pieces_too(process: Process) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(30))
    head = b"GET /health/live HTTP/1.1\r\nConnection: close\r\n" + lines

    answer = answer_in_two(process, head, b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_is_not_counted_as_headers_of_the_request_after_it(process: Process) -> None:
    first = b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000

    answer = answer_in_two(process, first + b"GET /health/live HT", b"TP/1.1\r\nConnection: close\r\n\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"415", b"200"]


@pytest.mark.parametrize("start", [b"1\r\na\r\n0\r\nX: ", b"1;"])
def test_trailers_and_chunk_extensions_have_the_limit_of_headers(process: Process, start: bytes) -> None:
    head = b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = answer_in_two(process, head + start, b"a" * 40_000)

    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_body_in_many_small_chunks_is_taken(process: Process) -> None:
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in flat_png(100).ljust(10_000, b"\0"))
    head = b"POST /denoise?model=slow HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = answer_in_two(process, head + body, b"0\r\n\r\n")

    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 422 "))  # not 431


@pytest.mark.parametrize(
    "broken",
    [
        b"not http at all\r\n\r\n",
        b"POST /denoise?model=toy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_broken_request_after_a_good_one_is_refused_in_its_turn(process: Process, broken: bytes) -> None:
    image = flat_png(300)  # still being worked on when the next is read
    good = f"POST /denoise?model=slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image

    answer = answer_to(process, good + broken)

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]


def test_a_request_that_was_answered_before_its_body_broke_has_one_answer(process: Process) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = answer_in_two(process, head, b"zz\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"404"]


def test_clients_that_leave_in_silence_are_noticed(process: Process) -> None:
    image = flat_png(2000)
    request = f"POST /denoise?model=slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image
    before = open_files(process)
    with connect(process, request), connect(process, request):
        until(lambda: open_files(process) >= before + 2)

    until(lambda: open_files(process) <= before)
