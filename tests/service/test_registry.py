"""Models come and go while the service runs; only sound ones go live."""

import gc
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service.models.probe import probe
from tests.service.conftest import MakeClient
from tests.service.files import pixels_of, png
from tests.service.slowmodel import START_TIMEOUT_S
from tests.service.toymodels import Axis, make_graph, publish_toy

LEVEL = png(np.full((4, 4), 200, np.uint8))
FAST = {"watch_interval_s": 0.02}


def answer(client: TestClient, query: str = "") -> tuple[str, int]:
    response = client.post(f"/denoise{query}", content=LEVEL)
    assert response.status_code == 200, response.text
    return response.headers["x-model"], int(pixels_of(response.content)[0, 0])


def rejected(client: TestClient) -> dict[str, str]:
    document = client.get("/health/ready").json()
    return {f"{entry['name']}/{entry['version']}": entry["reason"] for entry in document["rejected"]}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_while_models_load_the_service_is_alive_and_says_that_it_is_not_ready(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(models_dir)
    may_load = threading.Event()
    monkeypatch.setattr("service.api.app._LOADING_HEAD_START_S", 0.0)
    monkeypatch.setattr("service.models.registry.probe", lambda *args, **kw: (may_load.wait(), *probe(*args, **kw))[1:])

    client = make_client(waits=False)
    replies = [client.get("/health/ready"), *(client.post(f"/denoise{q}", content=LEVEL) for q in ("", "?model=toy"))]

    assert client.get("/health/live").status_code == 200
    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(503, "not-ready")] * 3
    assert all("still being loaded" in reply.json()["detail"] for reply in replies)
    may_load.set()
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert answer(client) == ("toy/1", 100)


def test_a_new_version_goes_live_without_a_lost_request(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, factor=0.5)
    client = make_client(**FAST)
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            response = client.post("/denoise", content=LEVEL)
            seen.append((response.status_code, response.headers.get("x-model", "")))

    thread = threading.Thread(target=ask)
    thread.start()
    publish_toy(models_dir, version=2, factor=0.25)
    wait_until(lambda: (200, "toy/2") in seen)
    stop.set()
    thread.join()

    assert {status for status, _ in seen} == {200}
    assert answer(client) == ("toy/2", 50)
    assert answer(client, "?version=1") == ("toy/1", 100)


def test_a_replaced_version_leaves_no_thread_behind(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(**FAST)
    answer(client)
    assert any(thread.name.startswith("toy/1") for thread in threading.enumerate())

    publish_toy(models_dir, version=2)

    wait_until(lambda: answer(client)[0] == "toy/2")
    # Again and again: the look at the directory that is just going on may still hold the version.
    wait_until(lambda: gc.collect() >= 0 and not any(t.name.startswith("toy/1") for t in threading.enumerate()))


def test_the_newest_version_serves_by_number_not_by_name(models_dir: Path, make_client: MakeClient) -> None:
    for version in (2, 10):
        publish_toy(models_dir, version=version)

    assert answer(make_client())[0] == "toy/10"


def test_hidden_and_unfinished_directories_are_skipped(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    (models_dir / "toy" / ".tmp-2").mkdir()
    (models_dir / "toy" / "3").mkdir()
    (models_dir / "toy" / "007").mkdir()
    (models_dir / "toy" / "latest").mkdir()
    shutil.copytree(models_dir / "toy", models_dir / ".old")
    (models_dir / "README.md").write_text("hello")
    client = make_client()

    assert answer(client)[0] == "toy/1"
    assert rejected(client) == {}


def flip_a_bit(directory: Path) -> None:
    path = directory / "denoise.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit_manifest(directory: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


BREAK = {
    "a flipped bit": (flip_a_bit, "denoise.onnx has sha256"),
    "a missing graph": (lambda d: (d / "denoise.onnx").unlink(), "denoise.onnx cannot be read"),
    "a missing golden sample": (lambda d: (d / "golden.npz").unlink(), "golden.npz cannot be read"),
    "a manifest cut off": (lambda d: (d / "manifest.json").write_text('{"name":'), "manifest.json"),
    "a manifest of another version": (lambda d: edit_manifest(d, lambda m: m.update(version=9)), "is of toy/9"),
    "an unknown field": (lambda d: edit_manifest(d, lambda m: m.update(extra=1)), "extra"),
    "another channel count": (
        lambda d: edit_manifest(d, lambda m: m["input"].update(channels=3)),  # type: ignore[attr-defined]
        "its input, latent and tables say",
    ),
}


@pytest.mark.parametrize("name", BREAK)
def test_a_broken_version_stays_out_and_the_old_one_answers(
    models_dir: Path, make_client: MakeClient, name: str
) -> None:
    damage, reason = BREAK[name]
    publish_toy(models_dir, factor=0.5)
    damage(publish_toy(models_dir, version=2, factor=0.25))
    client = make_client()

    assert answer(client) == ("toy/1", 100)
    assert reason in rejected(client)["toy/2"]
    refused = client.post("/denoise?version=2", content=LEVEL)
    assert (refused.status_code, refused.json()["code"]) == (404, "version-not-found")
    assert reason in refused.json()["detail"]


SHAPE: list[Axis] = ["n", 1, 4, 4]
WRONG_GRAPHS = {
    "no ONNX file at all": (None, "cannot be read as ONNX"),
    "another output name": (
        make_graph([helper.make_node("Identity", ["x"], ["y"])], {"x": SHAPE}, {"y": SHAPE}),
        "declared are ['x_hat']",
    ),
    "another output shape": (
        make_graph(
            [helper.make_node("ReduceMean", ["x"], ["x_hat"], axes=[3])], {"x": SHAPE}, {"x_hat": ["n", 1, 4, 1]}
        ),
        "x_hat is",
    ),
    "a fixed batch": (
        make_graph([helper.make_node("Identity", ["x"], ["x_hat"])], {"x": [1, 1, 4, 4]}, {"x_hat": [1, 1, 4, 4]}),
        "x is",
    ),
    "another answer than recorded": (
        make_graph([helper.make_node("Identity", ["x"], ["x_hat"])], {"x": SHAPE}, {"x_hat": SHAPE}),
        "golden sample differs",
    ),
    "NaN": (
        make_graph(
            [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["x_hat"])],
            {"x": SHAPE},
            {"x_hat": SHAPE},
        ),
        "golden sample differs",
    ),
}


@pytest.mark.parametrize("name", WRONG_GRAPHS)
def test_a_graph_of_the_wrong_contract_stays_out(models_dir: Path, make_client: MakeClient, name: str) -> None:
    graph, reason = WRONG_GRAPHS[name]
    content = graph or b"no graph"
    publish_toy(models_dir, tasks=["denoise"])
    broken = publish_toy(models_dir, version=2, tasks=["denoise"])
    (broken / "denoise.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(broken, lambda m: m["tasks"]["denoise"].update(sha256=digest))  # type: ignore[index]
    client = make_client()

    assert answer(client)[0] == "toy/1"
    assert reason in rejected(client)["toy/2"]


def test_a_broken_version_goes_live_once_it_is_repaired(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    second = publish_toy(models_dir, version=2)
    graph = (second / "denoise.onnx").read_bytes()
    flip_a_bit(second)
    client = make_client(**FAST)
    assert answer(client)[0] == "toy/1"

    (second / "denoise.onnx").write_bytes(graph)

    wait_until(lambda: answer(client)[0] == "toy/2")
    assert rejected(client) == {}


def test_a_live_version_that_is_spoilt_on_disk_goes_on_from_memory(models_dir: Path, make_client: MakeClient) -> None:
    directory = publish_toy(models_dir)
    client = make_client(**FAST)

    flip_a_bit(directory)

    wait_until(lambda: "toy/1" in rejected(client))
    time.sleep(0.1)  # several more looks at it
    assert answer(client) == ("toy/1", 100)


def test_a_version_that_is_removed_makes_room_for_the_one_before(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    second = publish_toy(models_dir, version=2)
    client = make_client(**FAST)
    assert answer(client)[0] == "toy/2"

    shutil.rmtree(second)

    wait_until(lambda: answer(client)[0] == "toy/1")


def test_a_models_directory_that_goes_away_takes_nothing_down(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(**FAST)

    models_dir.rename(models_dir.with_name("away"))
    time.sleep(0.1)

    assert answer(client)[0] == "toy/1"


def test_an_empty_models_directory_is_a_503_by_name_too(models_dir: Path, make_client: MakeClient) -> None:
    client = make_client()

    for path in ("/models/toy", "/v2/models/toy.denoise", "/models/toy?version=2"):
        assert client.get(path).status_code == 503
    assert client.post("/denoise?model=toy", content=b"x").status_code == 503


@pytest.mark.parametrize("name", [b"toy\xff", b"Toy", "tö".encode(), b"toy\n"])
def test_a_folder_whose_name_no_model_can_have_is_rejected_and_health_says_so(
    models_dir: Path, make_client: MakeClient, name: bytes
) -> None:
    publish_toy(models_dir)
    shutil.copytree(models_dir / "toy", models_dir / os.fsdecode(name))

    ready = make_client().get("/health/ready")

    assert ready.status_code == 200
    assert [rejected["reason"].endswith("is not a valid model name") for rejected in ready.json()["rejected"]] == [True]


@pytest.mark.parametrize("file", ["denoise.onnx", "manifest.json", "extra.txt"])
def test_a_link_that_leads_nowhere_leaves_a_version_live_or_rejected(
    models_dir: Path, make_client: MakeClient, file: str
) -> None:
    publish_toy(models_dir, version=1)
    path = publish_toy(models_dir, version=2) / file
    path.unlink(missing_ok=True)
    path.symlink_to(models_dir / "nowhere")

    ready = make_client().get("/health/ready").json()

    known = [(found["name"], found["version"]) for found in [*ready["models"], *ready["rejected"]]]
    assert ("toy", 2) in known


def test_old_versions_beyond_the_limit_are_loaded_again_when_asked_for(
    models_dir: Path, make_client: MakeClient
) -> None:
    for version in (1, 2, 3):
        publish_toy(models_dir, version=version)
    client = make_client(old_versions=1)

    assert [answer(client, f"?version={version}")[0] for version in (1, 2, 1)] == ["toy/1", "toy/2", "toy/1"]


def test_the_model_that_claims_a_task_is_its_default(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, name="alpha")
    publish_toy(models_dir, name="beta", default_for=["denoise"])
    publish_toy(models_dir, name="gamma", default_for=["denoise"])
    client = make_client()

    assert answer(client)[0] == "beta/1"  # of two claims the first by name
    assert answer(client, "?model=alpha")[0] == "alpha/1"
    unclaimed = client.post("/encode", content=LEVEL)
    assert unclaimed.json()["code"] == "task-not-offered"
    assert "add ?model=" in unclaimed.json()["detail"]


def test_the_only_model_with_a_task_is_its_default(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, name="alpha", tasks=["denoise"])
    publish_toy(models_dir, name="beta", tasks=["anomaly"])

    assert answer(make_client())[0] == "alpha/1"
