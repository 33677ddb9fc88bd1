"""What a request held is free once it is answered, and does not wait for the garbage collector."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.images.inspect import ImageFile
from service.tasks.restore import Restoration
from tests.service.conftest import MakeClient
from tests.service.slowmodel import flat_png, publish_slow, until
from tests.service.toymodels import publish_toy

SIDE = 1200  # 1.4 megapixels: several tiles, seconds of work


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def slow_client(models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    publish_slow(models_dir)
    publish_toy(models_dir)
    monkeypatch.setattr("service.api.service._TIMES_EXPECTED", 0)  # no time beyond the setting
    return make_client(request_timeout_s=0.2)


def held() -> int:
    """How many pictures of requests there are."""
    return sum(type(thing) in {ImageFile, Restoration} for thing in gc.get_objects())


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
    until(lambda: not held(), 20)
