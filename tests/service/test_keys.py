"""API keys and CORS: off unless set; then nothing but health and the API page answers without a key."""

import asyncio
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from service.api.app import create_app
from service.errors import InvalidSettings
from service.settings import Settings, read_settings
from tests.service.conftest import MakeClient
from tests.service.files import png
from tests.service.toymodels import publish_toy

LEVEL = png(np.full((4, 4), 200, np.uint8))
KEY, OTHER = "correct-horse-battery", "a-second-key-for-rotation"
SITE = "https://lab.example"


@pytest.fixture
def guarded(models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir)
    return make_client(api_keys=f"{KEY}, {OTHER}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {OTHER}"},
        {"X-API-Key": KEY},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": OTHER},
    ],
)
def test_a_request_with_any_of_the_keys_is_answered(guarded: TestClient, headers: dict[str, str]) -> None:
    assert guarded.post("/denoise", content=LEVEL, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing-api-key"),
        ({"Authorization": ""}, 401, "missing-api-key"),
        ({"Authorization": "Bearer "}, 401, "missing-api-key"),
        ({"Authorization": f"Basic {KEY}"}, 401, "missing-api-key"),
        ({"X-API-Key": ""}, 401, "missing-api-key"),
        ({"X-API-Key": KEY[:-1]}, 403, "wrong-api-key"),
        ({"X-API-Key": KEY.upper()}, 403, "wrong-api-key"),
        ({"X-API-Key": f"{KEY},{OTHER}"}, 403, "wrong-api-key"),
        ({"Authorization": f"Bearer {KEY}x"}, 403, "wrong-api-key"),
        ({"Authorization": "Bearer \xff\xfe"}, 403, "wrong-api-key"),
    ],
)
def test_a_missing_key_is_401_and_a_wrong_one_403(
    guarded: TestClient, headers: dict[str, str], status: int, code: str
) -> None:
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}

    response = guarded.post("/denoise", content=LEVEL, headers=raw)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert response.headers["connection"] == "close"
    assert KEY not in response.text


@pytest.mark.parametrize("path", ["/models", "/models/toy", "/nowhere", "/docs/../models", "/health/livex"])
def test_whatever_is_not_open_wants_a_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/health/live", "/health/ready", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/problems/wrong-api-key"],
)
def test_health_and_the_api_page_stay_open(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_the_help_pages_stay_open(guarded: TestClient) -> None:
    assert guarded.get("/help/").status_code != 401


def test_without_a_key_the_body_is_not_read(models_dir: Path) -> None:
    app = create_app(Settings.model_validate({"models_dir": models_dir, "device": "cpu", "api_keys": KEY}))
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/denoise",
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked")],
    }
    asyncio.run(app(scope, receive, send))

    assert sent[0]["status"] == 401
    assert (b"connection", b"close") in sent[0]["headers"]


def test_the_api_page_declares_keys_only_where_they_are_wanted(guarded: TestClient, make_client: MakeClient) -> None:
    document: dict[str, Any] = guarded.get("/openapi.json").json()
    plain: dict[str, Any] = make_client().get("/openapi.json").json()

    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    denoise, live = document["paths"]["/denoise"]["post"], document["paths"]["/health/live"]["get"]
    assert denoise["security"] == [{"bearer": []}, {"header": []}]
    assert {"401", "403"} <= set(denoise["responses"])
    assert "security" not in live
    assert "401" not in live["responses"]
    assert "securitySchemes" not in plain["components"]
    assert "401" not in plain["paths"]["/denoise"]["post"]["responses"]


def test_keys_are_in_no_message_log_or_help(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    environ = {"HOURGLASS_MODELS_DIR": str(tmp_path), "HOURGLASS_API_KEYS": KEY}

    settings = read_settings(environ, [])
    with TestClient(create_app(settings)) as client:
        client.get("/models", headers={"X-API-Key": KEY})
    shown = subprocess.run(
        [sys.executable, "-m", "service", "--help"],
        cwd=Path(__file__).parents[2],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    for text in (repr(settings), settings.model_dump_json(), caplog.text, shown.stdout, shown.stderr):
        assert KEY not in text
    assert "--api-keys" in shown.stdout


@pytest.mark.parametrize("keys", ["tooshort", f"{KEY},short", "contains a space between", "schlüssel-mit-umlaut"])
def test_a_weak_key_stops_the_start_without_being_shown(tmp_path: Path, keys: str) -> None:
    with pytest.raises(InvalidSettings, match=r"HOURGLASS_API_KEYS is not usable: .*16 or more") as refusal:
        read_settings({"HOURGLASS_MODELS_DIR": str(tmp_path), "HOURGLASS_API_KEYS": keys}, [])

    assert keys not in str(refusal.value)


def test_a_stray_comma_does_not_open_the_service(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="nothing between them"):
        read_settings({"HOURGLASS_MODELS_DIR": str(tmp_path), "HOURGLASS_API_KEYS": " , "}, [])


# --- CORS ---

PREFLIGHT = {"Origin": SITE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


def test_cors_is_off_unless_set(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    answer = client.post("/denoise", content=LEVEL, headers={"Origin": SITE})
    preflight = client.options("/denoise", headers=PREFLIGHT)

    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert preflight.status_code == 405


def test_a_page_of_a_named_site_may_call_with_a_key(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(cors_origins=SITE, api_keys=KEY)

    preflight = client.options("/denoise", headers=PREFLIGHT)
    answer = client.post("/denoise", content=LEVEL, headers={"Origin": SITE, "X-API-Key": KEY})
    refused = client.post("/denoise", content=LEVEL, headers={"Origin": SITE})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SITE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == SITE
    assert re.search("X-Model", answer.headers["access-control-expose-headers"])
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == SITE  # so that the page can read why


def test_a_page_of_another_site_may_not_call(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(cors_origins=SITE)

    preflight = client.options("/denoise", headers={**PREFLIGHT, "Origin": "https://evil.example"})
    answer = client.post("/denoise", content=LEVEL, headers={"Origin": "https://evil.example"})

    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", ["lab.example", "https://lab.example/page", "https://u@lab.example", "null"])
def test_a_wrong_origin_is_named(tmp_path: Path, origins: str) -> None:
    with pytest.raises(InvalidSettings, match="HOURGLASS_CORS_ORIGINS is"):
        read_settings({"HOURGLASS_MODELS_DIR": str(tmp_path), "HOURGLASS_CORS_ORIGINS": origins}, [])
