"""The API page says all that can happen, and works with no internet."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service.api.routes import ROUTERS
from service.errors import (
    PROBLEMS,
    KeyNotEnough,
    MethodNotAllowed,
    MissingApiKey,
    RouteNotFound,
    TooManyGuesses,
    UnloadRefused,
    WrongApiKey,
    WrongHost,
)
from tests.service.files import png

ROOT = Path(__file__).parents[2]
DOCUMENT_METHODS = {"get", "post", "put", "delete"}


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in DOCUMENT_METHODS
    }


def test_every_endpoint_is_there_with_an_id_a_tag_and_a_summary(document: dict[str, Any]) -> None:
    found = operations(document)

    assert set(found) == {
        "POST /denoise",
        "POST /encode",
        "POST /decode",
        "POST /anomaly",
        "POST /enhance",
        "POST /generate",
        "POST /interpolate",
        "POST /compress",
        "POST /decompress",
        "GET /collections",
        "GET /collections/{collection}",
        "DELETE /collections/{collection}",
        "GET /collections/{collection}/items",
        "PUT /collections/{collection}/items/{id}",
        "GET /collections/{collection}/items/{id}",
        "DELETE /collections/{collection}/items/{id}",
        "POST /collections/{collection}/search",
        "POST /collections/{collection}/classify",
        "GET /models",
        "GET /models/{name}",
        "GET /models/{name}/card",
        "GET /models/{name}/preview",
        "GET /models/{name}/feedback",
        "POST /models/{name}/feedback",
        "DELETE /models/{name}/feedback",
        "DELETE /models/{name}/feedback/{id}",
        "GET /models/{name}/aliases",
        "GET /models/{name}/aliases/{alias}",
        "PUT /models/{name}/aliases/{alias}",
        "DELETE /models/{name}/aliases/{alias}",
        "POST /models/{name}/aliases/{alias}/rollback",
        "GET /models/{name}/training",
        "POST /models/{name}/training",
        "GET /models/{name}/training/{id}",
        "DELETE /models/{name}/training/{id}",
        "POST /models/{name}/training/{id}/approve",
        "POST /training/lease",
        "POST /training/{id}/report",
        "POST /training/{id}/end",
        "GET /jobs/{id}",
        "GET /jobs/{id}/result",
        "GET /jobs/{id}/events",
        "DELETE /jobs/{id}",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
    }
    assert all(operation["tags"] and operation["summary"] for operation in found.values())
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name in re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')):
        assert name in document["components"]["schemas"], name


def test_every_error_is_listed_with_an_example_at_some_endpoint(document: dict[str, Any]) -> None:
    listed = set()
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            for code, example in response["content"].get("application/problem+json", {}).get("examples", {}).items():
                assert example["value"]["status"] == int(status) == PROBLEMS[code].status
                listed.add(code)

    # No endpoint gives the first two: they are for addresses that are none. The next four need keys, then comes one for
    # the name of another service, and the last one belongs to /v2, which has a description of its own.
    keys = (MissingApiKey, WrongApiKey, KeyNotEnough, TooManyGuesses)
    unlisted = (RouteNotFound, MethodNotAllowed, *keys, WrongHost, UnloadRefused)
    assert listed == set(PROBLEMS) - {error.code for error in unlisted}


@pytest.mark.parametrize("path", ["/denoise", "/enhance", "/encode", "/anomaly", "/compress"])
def test_images_can_be_uploaded_and_shown(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]

    body = operation["requestBody"]["content"]
    assert {"image/png", "image/jpeg", "multipart/form-data", "application/x-npy"} <= set(body)
    assert body["image/png"]["schema"] == {"type": "string", "format": "binary"}
    if path not in {"/encode", "/compress"}:
        assert "image/png" in operation["responses"]["200"]["content"]


@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("POST", "/denoise", "image/png", png(np.zeros((4, 4), np.uint8))),
        ("POST", "/denoise", "image/png", b"rubbish"),
        ("POST", "/denoise?version=9", "image/png", b"rubbish"),
        ("POST", "/denoise", "text/html", b"rubbish"),
        ("POST", "/encode", "application/x-npy", b"\x93NUMPYrubbish"),
        ("POST", "/decode", "application/json", b"rubbish"),
        ("POST", "/decode", "application/json", b'{"latent":[]}'),
        ("POST", "/anomaly?max_fpr=7", "image/png", b"rubbish"),
        ("POST", "/compress?rate=0", "image/png", b"rubbish"),
        ("POST", "/decompress", "application/vnd.hourglass", b"rubbish"),
        ("POST", "/decompress", "application/vnd.hourglass", b"\xf0HG rubbish"),
        ("GET", "/models/nobody", "", b""),
        ("GET", "/models", "", b""),
        ("GET", "/health/ready", "", b""),
    ],
)
def test_what_an_endpoint_answers_is_what_its_page_says(  # noqa: PLR0917  a request has these parts
    client: TestClient, document: dict[str, Any], method: str, path: str, kind: str, body: bytes
) -> None:
    response = client.request(method, path, content=body, headers={"Content-Type": kind})

    plain = "/models/{name}" if path.startswith("/models/") else path.partition("?")[0]
    answers = document["paths"][plain][method.lower()]["responses"]
    assert str(response.status_code) in answers
    assert response.headers["content-type"] in answers[str(response.status_code)]["content"]
    if response.status_code >= 400:
        assert (
            response.json()["code"]
            in answers[str(response.status_code)]["content"]["application/problem+json"]["examples"]
        )


def test_json_answers_have_the_fields_of_their_schemas(client: TestClient, document: dict[str, Any]) -> None:
    schemas, image = document["components"]["schemas"], png(np.zeros((4, 4), np.uint8))

    for answer, name in (
        (client.post("/encode", content=image).json(), "LatentAnswer"),
        (client.post("/anomaly", content=image).json(), "AnomalyAnswer"),
        (client.get("/models").json()[0], "ModelSummary"),
        (client.get("/models/toy").json(), "Manifest"),
        (client.get("/health/ready").json(), "Readiness"),
    ):
        assert set(answer) <= set(schemas[name]["properties"])
        assert set(schemas[name].get("required", [])) <= set(answer)


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert "://" not in address
        assert client.get(f"/{address}").status_code == 200
    assert "https://" not in page


def test_the_api_page_offers_the_live_models_and_pictures_to_try(client: TestClient) -> None:
    plain, shown = client.get("/openapi.json").json(), client.get("/docs/openapi.json").json()

    def parameter(document: dict[str, Any], path: str, method: str, name: str) -> dict[str, Any]:
        return next(p["schema"] for p in document["paths"][path][method]["parameters"] if p["name"] == name)

    assert parameter(shown, "/denoise", "post", "model") == {"type": "string", "enum": ["toy"]}
    assert parameter(shown, "/models/{name}", "get", "name")["enum"] == ["toy"]
    assert "enum" not in str(parameter(plain, "/denoise", "post", "model"))  # a client that is made outlives a model
    assert "enum" not in str(parameter(shown, "/enhance", "post", "model"))  # no live model does that
    tried = set()
    for path, item in shown["paths"].items():
        for operation in item.values():
            for address in re.findall(r"\]\((page/docs/[^)]+)\)", operation["description"]):
                assert client.get(f"/{address}").headers["content-type"].startswith("image/")
                tried.add(path)
    taking_images = {
        path
        for path, item in plain["paths"].items()
        for operation in item.values()
        if "image/png" in operation.get("requestBody", {}).get("content", {})
        or (path == "/interpolate" and "requestBody" in operation)
    }
    assert tried == taking_images
    assert {tag for item in shown["paths"].values() for o in item.values() for tag in o["tags"]} <= {
        tag["name"] for tag in shown["tags"]
    }


def test_the_api_page_has_v2_and_prose_for_every_family(client: TestClient) -> None:
    shown = client.get("/docs/openapi.json").json()

    assert all(len(tag["description"]) > 40 for tag in shown["tags"])
    v2 = {path: item for path, item in shown["paths"].items() if path.startswith("/v2")}
    methods = {(path, method) for path, item in v2.items() for method in item}
    assert methods == {
        (route.path, method.lower())
        for route in ROUTERS["v2"].routes
        if isinstance(route, APIRoute)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert all(operation["summary"] for item in v2.values() for operation in item.values())
    infer = v2["/v2/models/{name}/infer"]["post"]
    (name,) = infer["parameters"]
    assert "toy.denoise" in name["schema"]["enum"]
    example = infer["requestBody"]["content"]["application/json"]["example"]
    answer = client.post("/v2/models/toy.denoise/infer", json=example)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["shape"] == example["inputs"][0]["shape"]


def test_the_guide_to_the_api_explains_every_endpoint(document: dict[str, Any]) -> None:
    api = (ROOT / "docs" / "api.md").read_text()

    assert [operation for operation in operations(document) if operation not in api] == []


def test_the_table_of_routers_has_every_file_of_routes() -> None:
    files = {path.stem for path in (ROOT / "service/api/routes").glob("*.py")} - {"__init__", "common"}

    assert set(ROUTERS) == files
