"""Every request has an id and, if asked for, one line in the log, in which nothing stands that a user sent."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.tasks.denoise import Denoise
from service.telemetry.logs import JsonLines
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.rawclient import RawClient, post
from tests.service.slowmodel import flat_png, service_process, until
from tests.service.toymodels import publish_toy

IMAGE = png(np.full((4, 4), 100, np.uint8))


@pytest.fixture
def toy(models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir)
    return make_client()


@pytest.mark.parametrize("sent", ["7f3a", "a-b_c.d:e/f+g=@", "x" * 128])
def test_an_id_that_is_sent_comes_back(toy: TestClient, sent: str) -> None:
    for method, path in (("POST", "/denoise"), ("GET", "/nowhere"), ("GET", "/health/live"), ("GET", "/v2")):
        assert toy.request(method, path, headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "two words", 'quote"', "line\tbreak", "ünïcode"])
def test_an_id_that_could_not_stand_in_a_log_is_replaced(toy: TestClient, sent: str) -> None:
    response = toy.post("/denoise", content=IMAGE, headers=[(b"X-Request-ID", sent.encode())])

    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])


def test_with_a_line_for_each_every_request_has_an_id_of_its_own(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    toy = make_client(access_log=True)

    ids = {toy.post("/denoise", content=IMAGE).headers["x-request-id"] for _ in range(50)}

    assert len(ids) == 50


def test_the_id_of_a_500_is_in_body_header_and_log(
    toy: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Denoise) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(Denoise, "prepare", fail)
    response = toy.post("/denoise", content=IMAGE, headers={"X-Request-ID": "find-me"})

    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["x-request-id"] == "find-me"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["request_id"] == "find-me"
    assert "ZeroDivisionError: unforeseen" in caplog.text


def test_a_json_line_holds_what_a_record_has() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        record = logging.LogRecord("service.x", logging.ERROR, "", 0, "%s \udcff", ("what",), (ValueError, error, None))
    record.request_id = "7"

    line = json.loads(JsonLines().format(record))

    assert line["message"] == "what \\udcff"
    assert (line["level"], line["logger"], line["request_id"]) == ("ERROR", "service.x", "7")
    assert line["exception"] == "ValueError: why\n"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


def test_there_is_one_json_line_per_request_without_what_was_sent(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    flags = ("--log-format", "json", "--access-log", "true", "--body-timeout-s", "0.3")
    with service_process(tmp_path, *flags) as process:
        port = process.port
        post(port, "/denoise?model=toy", flat_png(4), X_Request_ID="one")
        post(port, "/denoise?model=secretname", flat_png(4), X_Request_ID="two")
        post(port, "/secretpath", b"secretbody", X_Request_ID="three")
        post(port, "/denoise", b"secretbody", X_Request_ID="four")
        with RawClient(port) as client:
            client.send_head("/denoise", 100)
            client.reply()
        with RawClient(port) as client:
            client.send(b"SECRET\r\n\r\n")
            client.reply()

        def requests() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in process.lines]
            asked = [line for line in lines if line["logger"] == "service.requests"]
            return [line for line in asked if line.get("route") != "/health/ready"]  # of the wait for the models

        until(lambda: len(requests()) == 6)
        process.stop()
        found = requests()

    assert [(line.get("request_id"), line["status"], line.get("problem")) for line in found[:4]] == [
        ("one", 200, None),
        ("two", 404, "model-not-found"),
        ("three", 404, "route-not-found"),
        ("four", 415, "unsupported-media-type"),
    ]
    assert [line.get("route") for line in found] == ["/denoise", "/denoise", "other", "/denoise", "/denoise", None]
    assert [line["status"] for line in found[4:]] == [408, 400]
    assert [(line.get("model"), line.get("version"), line.get("pixels")) for line in found[:4]] == [
        ("toy", 1, 16),
        *[(None, None, None)] * 3,
    ]
    assert 0 < found[0]["seconds"] < 5
    assert "secret" not in "".join(process.lines).lower()


def test_a_line_has_the_verdict_and_the_name_of_the_key_but_never_the_key(
    models_dir: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    publish_toy(models_dir)
    keys = {"admin": "a-key-of-an-admin", "old": "an-old-key-to-read", "new": "a-new-key-to-read"}
    client = make_client(access_log=True, api_keys=[keys["admin"]], read_keys=[keys["old"], keys["new"]])
    caplog.set_level(logging.INFO, logger="service.requests")

    def line(path: str, key: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401  whatever httpx takes
        caplog.clear()
        client.post(path, headers={"X-API-Key": keys.get(key, key)}, **options)
        (record,) = [record for record in caplog.records if hasattr(record, "route")]
        return record.__dict__

    white, dark = flat_png(4, 255), flat_png(4, 0)
    one = line("/anomaly", "admin", content=white)
    several = line("/anomaly", "new", files=[("file", ("secretname.png", file)) for file in (white, dark, dark)])
    array = line("/anomaly", "old", content=to_npy(np.zeros((2, 1, 4, 4), np.float32)))
    refused = line("/anomaly", "none of the keys", content=white)

    assert (one["verdict"], one["key"], one["pixels"], one["model"], one["version"]) == (
        "anomalous",
        "admin-1",
        16,
        "toy",
        1,
    )
    assert (several["verdict"], several["key"], several["pixels"]) == ("1 anomalous, 2 good", "read-2", 48)
    assert (array["verdict"], array["key"], array["pixels"]) == ("2 good", "read-1", 32)
    assert not {"verdict", "key", "model"} & refused.keys()
    assert not any(said in caplog.text for said in (*keys.values(), "secretname"))


def test_text_lines_are_for_people(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path, "--access-log", "true") as process:
        post(process.port, "/denoise", flat_png(4), X_Request_ID="one")
        pattern = (
            r"INFO service\.requests: POST /denoise 200 in \d+\.\d ms, pixels 16, model toy, version 1, request one\n"
        )
        until(lambda: any(re.fullmatch(pattern, line) for line in process.lines))
