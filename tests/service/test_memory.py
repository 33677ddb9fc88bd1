"""What a request held is free once it is answered, and does not wait for the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.errors import BrokenImage, RequestError
from service.http.admission import Slot
from service.images.inspect import ImageFile
from service.models.batcher import Batcher
from service.models.job import Inputs, Outputs
from service.tasks.restore import Restoration
from tests.service.conftest import MakeClient
from tests.service.slowmodel import flat_png, publish_slow, until
from tests.service.toymodels import publish_toy

SIDE = 1200  # 1.4 megapixels: several tiles, seconds of work


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing is collected, and `gc.get_objects` has only what is new: looking through PyTorch takes a second."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.fixture
def slow_client(models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    publish_slow(models_dir)
    publish_toy(models_dir)
    monkeypatch.setattr("service.api.service._TIMES_EXPECTED", 0)  # no time beyond the setting
    monkeypatch.setattr("service.api.service._MOST_TIMES_TIMEOUT", 100)  # and yet admitted
    return make_client(request_timeout_s=0.2, max_request_s=0.2)


def held() -> int:
    """How many pictures and places of requests there are; a place holds the request, and so its body."""
    return sum(type(thing) in {ImageFile, Restoration, Slot} for thing in gc.get_objects())


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/denoise?model=slow", flat_png(SIDE), 504),
        ("/denoise?model=slow", flat_png(SIDE)[:-40], 422),
        ("/denoise?model=toy", flat_png(SIDE), 200),
        ("/anomaly?model=toy", flat_png(SIDE)[:-40], 422),
        ("/encode?model=toy", b"no picture", 415),
    ],
)
def test_no_picture_outlives_its_answer(
    path: str, body: bytes, status: int, slow_client: TestClient, without_collector: None
) -> None:
    response = slow_client.post(path, content=body)

    assert response.status_code == status
    until(lambda: not held())


class Pixels:
    """What a job works on; nothing refers to it but the job."""


@dataclass
class Large:
    """A job that goes to the thread, or fails on the way."""

    pixels: Pixels
    fault: Exception | None = None
    is_small: ClassVar[bool] = False

    def prepare(self) -> Inputs:
        if self.fault is not None:
            raise self.fault
        return (np.zeros((1, 1, 4, 4), np.float32),)

    def finish(self, outputs: Outputs) -> str:
        return "done"


def no_memory(x: NDArray[np.float32]) -> Outputs:
    raise MemoryError("a graph needs more memory than there is")


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (lambda x: (x,), BrokenImage("the image ends early")),
        (lambda x: (np.full_like(x, np.nan),), None),
        (no_memory, None),
        (lambda x: (x,), MemoryError("no room to decode")),
    ],
    ids=["it cannot be read", "no number comes out", "the graph has no memory", "reading has no memory"],
)
def test_a_job_that_fails_leaves_nothing(
    run: Callable[..., Outputs], fault: Exception | None, without_collector: None
) -> None:
    async def failed() -> weakref.ref[Pixels]:
        batcher = Batcher(run, max_batch=4, max_pixels=10**6, name="large")
        pixels = Pixels()
        try:
            await batcher.answer(Large(pixels, fault))
        except (RequestError, MemoryError):
            return weakref.ref(pixels)
        raise AssertionError("it did not fail")

    left = asyncio.run(failed())
    if fault is not None:
        fault.__traceback__ = None

    assert left() is None
