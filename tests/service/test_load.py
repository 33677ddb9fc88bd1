"""More work than there is room for: refusals come at once, what was taken is answered, what nobody wants is dropped."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.images.inspect import peek
from service.tasks.latents import count_latents
from tests.service.files import pixels_of, to_npy
from tests.service.rawclient import RawClient, Reply, get, post
from tests.service.slowmodel import Process, flat_png, publish_slow, service_process, until
from tests.service.toymodels import publish_toy

DENOISE = "/denoise?model=toy"
SMALL = flat_png(4)
ROOM = 3  # images


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service with room for three images."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_slow(directory)
    with service_process(directory, "--max-queue-images", str(ROOM)) as process:
        yield process


def is_halved(reply: Reply) -> bool:
    return reply.status == 200 and bool((pixels_of(reply.body) == 50).all())


def test_a_full_queue_refuses_before_the_body_is_read_and_answers_what_it_took(service: Process) -> None:
    takers = [RawClient(service.port) for _ in range(ROOM)]
    for taker in takers:
        taker.take_a_place(DENOISE, len(SMALL))

    with RawClient(service.port) as late:
        late.send_head(DENOISE, 1_000_000)  # and no body
        refused = late.reply()
        late.send(bytes(1_000_000))
        late.send_head(DENOISE, len(SMALL))  # the connection is as good as before
        refused_again = late.reply()
    others = [get(service.port, path).status for path in ("/health/live", "/health/ready", "/docs", "/models")]
    for taker in takers:
        taker.send(SMALL)
    taken = [taker.reply() for taker in takers]

    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "queue-full", "1")
    assert refused_again.code == "queue-full"
    assert others == [200] * 4
    assert all(is_halved(reply) for reply in taken)
    assert is_halved(post(service.port, DENOISE, SMALL))
    for taker in takers:
        taker.close()


def form(count: int) -> tuple[bytes, dict[str, str]]:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + SMALL + b"\r\n"
    return part * count + b"--b--\r\n", {"content_type": "multipart/form-data; boundary=b"}


def array(count: int) -> tuple[bytes, dict[str, str]]:
    return to_npy(np.zeros((count, 1, 4, 4), np.float32)), {"content_type": "application/x-npy"}


def latents(count: int) -> tuple[bytes, dict[str, str]]:
    return b'{"latents": [' + b",".join([b"[0, 0, 0, 0]"] * count) + b"]}", {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("path", "make"), [(DENOISE, form), (DENOISE, array), ("/decode?model=toy", latents)], ids=["form", "npy", "json"]
)
def test_every_image_of_a_request_counts_and_they_are_refused_together(
    service: Process, path: str, make: Callable[[int], tuple[bytes, dict[str, str]]]
) -> None:
    def ask(count: int) -> Reply:
        body, headers = make(count)
        return post(service.port, path, body, **headers)

    with RawClient(service.port) as taker:
        taker.take_a_place(DENOISE, len(SMALL))
        fits, does_not = ask(ROOM - 1), ask(ROOM)
        taker.send(SMALL)
        assert is_halved(taker.reply())

    assert fits.status == 200
    assert (does_not.status, does_not.code) == (503, "queue-full")
    assert ask(ROOM + 2).status == 200  # alone in the queue, it need not fit


@pytest.mark.parametrize("side", [None, 1500], ids=["before-the-body", "while-queued"])
def test_clients_that_leave_free_their_places(service: Process, side: int | None) -> None:
    body = flat_png(side or 4)
    takers = [RawClient(service.port) for _ in range(ROOM)]
    for taker in takers:
        taker.take_a_place("/denoise?model=slow", len(body))
    assert post(service.port, DENOISE, SMALL).status == 503
    if side:
        for taker in takers:
            taker.send(body)

    for taker in takers:
        taker.leave()

    until(lambda: is_halved(post(service.port, DENOISE, SMALL)))


def test_every_request_of_a_crowd_gets_one_whole_answer(service: Process) -> None:
    def ask(_: int) -> Reply:
        return post(service.port, "/denoise?model=slow", flat_png(200))

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(ask, range(60)))

    assert {reply.status for reply in replies} <= {200, 503}
    assert all(is_halved(reply) or reply.code == "queue-full" for reply in replies)
    assert any(is_halved(reply) for reply in replies)
    assert is_halved(post(service.port, DENOISE, SMALL))


def test_work_that_is_known_to_be_long_gets_the_time_for_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("models")
    publish_slow(directory)  # half of what is expected before it has ever run: 1 s for a megapixel

    with service_process(directory, "--request-timeout-s", "0.05") as process:
        assert is_halved(post(process.port, "/denoise?model=slow", flat_png(430)))


def test_a_request_that_takes_too_long_is_504_and_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_slow(directory, sines=200, copies=100)  # many times what is expected before it has ever run

    with service_process(directory, "--max-queue-images", "1", "--request-timeout-s", "0.1") as process:
        late = post(process.port, "/denoise?model=slow", flat_png(200))

        assert (late.status, late.code) == (504, "deadline-exceeded")
        until(lambda: is_halved(post(process.port, DENOISE, SMALL)))


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (to_npy(np.zeros((7, 1, 2, 2))), 7),
        (to_npy(np.zeros((7, 2, 2))), 1),
        (b"\x93NUMPY\x01\x00nothing", 1),
        (SMALL, 1),
        (b"", 1),
    ],
)
def test_images_are_counted_before_anything_is_read(data: bytes, count: int) -> None:
    assert peek(data).images == count


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (to_npy(np.zeros((7, 4))), 7),
        (to_npy(np.zeros((99, 4))), 10),
        (b'{"latents": [[1], [2], [3]]}', 3),
        (b'{"latent": [1]}', 1),
        (b"", 1),
    ],
)
def test_latents_are_counted_before_anything_is_read(data: bytes, count: int) -> None:
    assert count_latents(data, at_most=10) == count
