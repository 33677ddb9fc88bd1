"""Queries that the route reads itself are answered as those that FastAPI reads, byte for byte."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from service.api.addresses import Addresses
from service.api.app import create_app
from service.api.route import AdmittedRoute
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
    StrictQuery,
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
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    with TestClient(create_app(Settings(models_dir=directory, watch_interval_s=3600, device="cpu"))) as client:
        yield client


def test_a_query_without_a_mistake_is_not_read_by_fastapi(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing.solve_dependencies", lambda **_: pytest.fail("FastAPI has read the query"))

    for path in ("/denoise", "/encode", "/anomaly"):
        assert client.post(f"{path}?model=toy", content=IMAGE).status_code == 200


@pytest.mark.parametrize(
    "model",
    [
        ModelQuery,
        AnomalyQuery,
        CompressQuery,
        DecompressQuery,
        DenoiseQuery,
        EnhanceQuery,
        GenerateQuery,
        InterpolateQuery,
    ],
)
def test_queries_cannot_be_changed_as_requests_share_them(model: type[StrictQuery]) -> None:
    query = model()

    with pytest.raises(ValidationError, match="frozen"):
        setattr(query, next(iter(model.model_fields)), None)


def test_every_endpoint_that_opens_a_model_or_reads_a_body_is_admitted() -> None:
    reads_no_models = {"page", "help_pages", "health", "metrics", "models", "pages"}
    routes = [route for name, router in ROUTERS.items() if name not in reads_no_models for route in router.routes]
    outside = {route.path for route in routes if isinstance(route, APIRoute) and not isinstance(route, AdmittedRoute)}

    assert outside == {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("body", ["good", "bad"])
def test_both_ways_to_read_a_query_give_the_same_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, query: str, body: str
) -> None:
    content = PATHS[path] if body == "good" else b"neither image nor array"

    own = client.post(path + query, content=content)
    monkeypatch.setattr("service.api.route._read_query", lambda *_: None)
    fastapis = client.post(path + query, content=content)

    assert (own.status_code, own.content) == (fastapis.status_code, fastapis.content)
    assert dict(own.headers) == dict(fastapis.headers)


def test_fixed_addresses_are_found_in_a_table_and_the_others_by_the_router() -> None:
    asked: list[str] = []

    async def router(scope: Scope, _: Receive, __: Send) -> None:
        asked.append(scope["path"])

    addresses = Addresses(router, ROUTERS.values())
    scope: Scope = {"type": "http", "method": "GET", "path": "/denoise"}
    for other in ({}, {"path": "/models/toy"}, {"method": "POST", "root_path": "/denoise"}):
        asyncio.run(addresses({**scope, **other}, receive, send))

    assert asked == ["/denoise", "/models/toy", "/denoise"]


async def receive() -> Message:
    raise NotImplementedError


async def send(_: Message) -> None:
    raise NotImplementedError
