"""Requests that wait together run together, and each gets its own answer."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.errors import InvalidArray
from service.images.inspect import ImageFile
from service.models.batcher import Batcher
from service.models.job import Outputs
from service.models.provider import CPU
from service.models.session import Floats, Session
from service.tasks.denoise import Denoise
from tests.service.files import pixels_of, png, save, to_npy
from tests.service.slowmodel import publish_slow


class Half:
    """A job of `rows` images of 1x`width` pixels of one value; `None` fails to prepare."""

    def __init__(self, value: float | None, rows: int = 1, width: int = 3, *, is_small: bool = False) -> None:
        self.value, self.rows, self.width, self.is_small = value, rows, width, is_small

    def prepare(self) -> Floats:
        if self.value is None:
            raise InvalidArray("no value")
        return np.full((self.rows, 1, 1, self.width), self.value, np.float32)

    def finish(self, outputs: Outputs) -> list[float]:
        assert outputs[0].shape == (self.rows, 1, 1, self.width)
        return [float(row[0, 0, 0]) for row in outputs[0]]


def make_batcher(*, max_batch: int = 8, max_batch_pixels: int = 10_000) -> tuple[Batcher, list[int]]:
    sizes: list[int] = []

    def run(x: Floats) -> Outputs:
        sizes.append(len(x))
        return (x * np.float32(0.5),)

    batcher = Batcher(run, max_batch=max_batch, max_pixels=10_000, max_batch_pixels=max_batch_pixels, name="half")
    return batcher, sizes


def test_jobs_submitted_together_run_together() -> None:
    batcher, sizes = make_batcher()

    results = asyncio.run(batcher.submit([Half(value) for value in range(5)]))

    assert results == [[value / 2] for value in range(5)]
    assert sizes == [5]


def test_what_queues_while_a_batch_runs_is_the_next_batch() -> None:
    sizes: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def run(x: Floats) -> Outputs:
        sizes.append(len(x))
        started.set()
        assert go_on.wait(5)
        return (x * np.float32(0.5),)

    async def scenario() -> list[object]:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="half")
        first = asyncio.create_task(batcher.submit([Half(0)]))
        await asyncio.to_thread(started.wait, 5)
        others = [asyncio.create_task(batcher.submit([Half(value)])) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        go_on.set()
        return [*await first, *[result for task in others for result in await task]]

    assert asyncio.run(scenario()) == [[0.0], [0.5], [1.0], [1.5]]
    assert sizes == [1, 3]


def threads_of(batches: Sequence[Sequence[Half]], *, seconds: Sequence[float] = ()) -> list[bool]:
    """Whether each batch, one after the other, ran in the event loop's thread; its run takes `seconds` of CPU time."""
    was_in_loop: list[bool] = []
    left = list(seconds)

    def run(x: Floats) -> Outputs:
        was_in_loop.append(threading.current_thread() is threading.main_thread())
        end = time.thread_time() + (left.pop(0) if left else 0)
        while time.thread_time() < end:
            pass
        return (x * np.float32(0.5),)

    async def scenario() -> None:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="half")
        for jobs in batches:
            assert await batcher.submit(jobs) == [[job.value / 2] for job in jobs if job.value is not None]

    asyncio.run(scenario())
    return was_in_loop


def test_a_small_job_alone_runs_in_the_event_loop_once_it_is_known_to_be_quick() -> None:
    small, large = Half(1, is_small=True), Half(1)

    assert threads_of([[small], [small], [large], [small, small], [small]]) == [False, True, False, False, True]


def test_small_jobs_of_a_slow_graph_stay_in_the_thread() -> None:
    small = Half(1, is_small=True)

    assert threads_of([[small]] * 4, seconds=[0.005, 0.0, 0.005, 0.0]) == [False, False, True, False]


@pytest.mark.parametrize(
    ("job", "is_small"),
    [
        (png(np.zeros((28, 28), np.uint8)), True),
        (png(np.zeros((128, 128, 3), np.uint8)), True),
        (png(np.zeros((129, 128), np.uint8)), False),
        (png(np.random.default_rng(0).integers(0, 256, (128, 128, 4), np.uint8)), False),  # over 64 KiB
        (save(Image.new("L", (28, 28)), "JPEG"), False),
        (b"\x89PNG\r\n\x1a\n", False),
        (to_npy(np.zeros((20, 28, 28), np.uint8)), True),
        (to_npy(np.zeros((21, 28, 28), np.uint8)), False),
        (b"", False),
    ],
)
def test_what_is_small_is_told_from_its_first_bytes(job: bytes, is_small: bool) -> None:
    unused: Any = None

    assert Denoise(ImageFile.of(job), unused, unused, None).is_small is is_small


def test_one_jobs_failure_is_its_own() -> None:
    batcher, _ = make_batcher()

    first, second, third = asyncio.run(batcher.submit([Half(2), Half(None), Half(4)]))

    assert (first, third) == ([1.0], [2.0])
    assert isinstance(second, InvalidArray)


def test_shapes_are_kept_apart_and_batches_bounded() -> None:
    batcher, sizes = make_batcher(max_batch=4)
    jobs = [Half(1), Half(2, width=5), Half(3, rows=3), Half(4), Half(5, rows=10)]

    results = asyncio.run(batcher.submit(jobs))

    assert results == [[0.5], [1.0], [1.5] * 3, [2.0], [2.5] * 10]
    assert max(sizes) <= 4


def test_large_images_run_in_small_batches() -> None:
    batcher, sizes = make_batcher(max_batch=100, max_batch_pixels=6)

    results = asyncio.run(batcher.submit([Half(1, rows=5), Half(2)]))

    assert results == [[0.5] * 5, [1.0]]
    assert max(sizes) == 2  # of 3 pixels each


def test_an_unforeseen_failure_reaches_its_request_and_the_next_one_works() -> None:
    def run(x: Floats) -> Outputs:
        if x[0, 0, 0, 0] == 13:
            raise ZeroDivisionError
        return (x * np.float32(0.5),)

    async def scenario() -> object:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="half")
        with pytest.raises(ZeroDivisionError):
            await batcher.submit([Half(13)])
        return await batcher.submit([Half(2)])

    assert asyncio.run(scenario()) == [[1.0]]


def test_a_request_that_leaves_takes_its_queued_work_along() -> None:
    sizes: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def run(x: Floats) -> Outputs:
        sizes.append(len(x))
        started.set()
        assert go_on.wait(5)
        return (x * np.float32(0.5),)

    async def scenario() -> object:
        batcher = Batcher(run, max_batch=8, max_pixels=1000, name="half")
        first = asyncio.create_task(batcher.submit([Half(0)]))
        await asyncio.to_thread(started.wait, 5)
        leaving = asyncio.create_task(batcher.submit([Half(1), Half(2)]))
        staying = asyncio.create_task(batcher.submit([Half(3)]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        go_on.set()
        return await first, await staying

    assert asyncio.run(scenario()) == ([[0.0]], [[1.5]])
    assert sizes == [1, 1]


def test_a_run_that_nobody_waits_for_any_more_is_stopped_and_one_that_is_shared_is_not() -> None:
    stops: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def run(x: Floats) -> Outputs:
        started.set()
        assert go_on.wait(60)
        return (x * np.float32(0.5),)

    async def scenario(others: Sequence[float]) -> list[object]:
        batcher = Batcher(run, stop=lambda: stops.append("stop"), max_batch=8, max_pixels=1000, name="half")
        leaving = asyncio.create_task(batcher.submit([Half(1), Half(2)]))
        staying = [asyncio.create_task(batcher.submit([Half(value)])) for value in others]
        await asyncio.to_thread(started.wait, 60)
        leaving.cancel()
        await asyncio.wait([leaving])
        go_on.set()
        return [await task for task in staying]

    assert asyncio.run(scenario([3])) == [[[1.5]]]
    assert not stops
    started.clear()
    go_on.clear()
    assert not asyncio.run(scenario([]))
    assert stops == ["stop"]


def test_what_a_batch_has_not_begun_is_skipped_when_its_request_ends() -> None:
    prepared: list[float | None] = []
    started, go_on = threading.Event(), threading.Event()

    class Slow(Half):
        def prepare(self) -> Floats:
            prepared.append(self.value)
            started.set()
            assert go_on.wait(60)
            return super().prepare()

    async def scenario() -> None:
        batcher = Batcher(lambda x: (x,), max_batch=8, max_pixels=1000, name="half")
        leaving = asyncio.create_task(batcher.submit([Slow(value) for value in range(5)]))
        await asyncio.to_thread(started.wait, 60)
        leaving.cancel()
        await asyncio.wait([leaving])
        go_on.set()
        assert await batcher.submit([Half(4)]) == [[4.0]]

    asyncio.run(scenario())
    assert prepared == [0]


def test_a_graph_stops_in_the_midst_of_a_run_and_runs_again(tmp_path: Path) -> None:
    publish_slow(tmp_path, sines=300)
    graph = next(tmp_path.glob("slow/*/denoise.onnx")).read_bytes()
    session = Session(graph, provider=CPU, threads=1)
    x = np.ones((1, 1, 1000, 1000), np.float32)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, x)
        while not running.done():
            session.stop()  # until it has begun, there is nothing to stop
        with pytest.raises(Exception, match="terminate"):
            running.result()

    np.testing.assert_array_equal(session.run(x[:, :, :4, :4])[0], x[:, :, :4, :4] / 2)


def test_concurrent_requests_get_their_own_answers(client: TestClient) -> None:
    def ask(level: int) -> tuple[int, int]:
        side = 4 + level % 3  # sizes differ too
        response = client.post("/denoise", content=png(np.full((side, side), 2 * level, np.uint8)))
        return level, int(pixels_of(response.content)[0, 0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, list(range(100)) * 2))

    assert all(level == got for level, got in answers)
