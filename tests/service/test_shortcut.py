"""The short way past the routing answers as the long one does, byte for byte."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.api.app import create_app
from service.api.direct_route import Shortcut
from service.api.routes import ROUTERS
from service.api.schemas import (
    AnomalyQuery,
    CompressQuery,
    DecompressQuery,
    DenoiseQuery,
    EnhanceQuery,
    GenerateQuery,
    InterpolateQuery,
    ModelQuery,
)
from service.settings import Settings
from tests.service.files import png, to_npy
from tests.service.toymodels import publish_toy

IMAGE = png(np.full((4, 4), 200, np.uint8))
LATENTS = to_npy(np.zeros((2, 2), np.float32))
PATHS = {"/denoise": IMAGE, "/encode": IMAGE, "/anomaly": IMAGE, "/decode": LATENTS}
QUERIES = [
    "",
    "?model=toy",
    "?model=toy&version=1",
    "?model=%74oy",
    "?model=",
    "?version=",
    "?version=x",
    "?version=0",
    "?version=7",
    "?model=other",
    "?model=toy&model=toy",
    "?modell=toy",
    "?model",
    "?&",
    "?=",
    "?model=%ff",
    "?model=" + "a" * 300,
    "?max_fpr=0.5",
    "?max_fpr=2",
    "?max_fpr=nan",
]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, TestClient]]:
    """One with the short way, one without."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    short, long = (create_app(Settings(models_dir=directory, watch_interval_s=3600, device="cpu")) for _ in range(2))
    long.middleware_stack = FastAPI.build_middleware_stack(long)
    with TestClient(short) as one, TestClient(long) as other:
        yield one, other


def test_all_endpoints_that_run_a_model_have_a_short_way_and_no_other_has() -> None:
    unused: Any = None
    shortcut = Shortcut(unused, routers=ROUTERS.values(), on_unforeseen=unused)

    assert {path: query for path, (_, query) in shortcut.endpoint_by_path.items()} == {
        "/denoise": DenoiseQuery,
        "/enhance": EnhanceQuery,
        "/encode": ModelQuery,
        "/decode": ModelQuery,
        "/anomaly": AnomalyQuery,
        "/generate": GenerateQuery,
        "/interpolate": InterpolateQuery,
        "/compress": CompressQuery,
        "/decompress": DecompressQuery,
    }


def test_a_request_without_a_mistake_never_reaches_the_routing(
    clients: tuple[TestClient, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing.APIRoute.handle", lambda *_: pytest.fail("it took the long way"))

    assert clients[0].post("/denoise?model=toy", content=IMAGE).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("body", ["good", "bad"])
def test_both_ways_give_the_same_answer(
    clients: tuple[TestClient, TestClient], path: str, query: str, body: str
) -> None:
    content = PATHS[path] if body == "good" else b"neither image nor array"

    short, long = (client.post(path + query, content=content) for client in clients)

    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert dict(short.headers) == dict(long.headers)
