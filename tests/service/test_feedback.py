"""Feedback: pictures that people call fine or a defect, kept where the operator allows it."""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import App
from service.collections.store.feedback import Feedback
from service.http.budget import Budget, Hold, Load
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.rawclient import ask
from tests.service.slowmodel import START_TIMEOUT_S, service_process, until
from tests.service.toymodels import publish_toy

FEEDBACK = "/models/toy/feedback"
MIB = 2**20


def picture(level: int, side: int = 4) -> bytes:
    return png(np.full((side, side), level, np.uint8))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MARK = png(np.eye(4, dtype=np.uint8) * 255)


@pytest.fixture
def keeping(models_dir: Path, make_client: MakeClient) -> TestClient:
    publish_toy(models_dir, version=1)
    publish_toy(models_dir, version=2)
    return make_client(max_feedback_bytes=MIB)


def give(client: TestClient, content: bytes, query: str, mask: bytes | None = None) -> Any:  # noqa: ANN401  the test client's own type
    if mask is None:
        return client.post(f"{FEEDBACK}?{query}", content=content)
    return client.post(f"{FEEDBACK}?{query}", files={"file": content, "mask": mask})


def listed(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get(FEEDBACK).json()
    return found


def test_nothing_is_kept_until_the_operator_turns_it_on(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    refused = give(client, picture(1), "verdict=fine")

    assert (refused.status_code, refused.json()["code"]) == (409, "feedback-off")
    assert "max_feedback_bytes" in refused.json()["detail"]
    nothing = {"bytes": 0, "max_bytes": 0, "fine": 0, "defect": 0, "pictures": [], "after": None}
    assert listed(client) == {"model": "toy", "is_kept": False, **nothing}
    assert not (models_dir.parent / "collections").exists()


def test_a_picture_is_kept_with_what_was_said_of_it(keeping: TestClient) -> None:
    answer = give(keeping, picture(9), "verdict=defect&who=Ann&version=1")

    assert answer.status_code == 201, answer.text
    assert answer.headers["x-model"] == "toy/1"
    kept = answer.json()
    assert kept | {"created": ""} == {
        "id": digest(picture(9)),
        "verdict": "defect",
        "version": 1,
        "who": "Ann",
        "created": "",
        "has_mask": False,
    }
    found = listed(keeping)
    assert found["pictures"] == [kept]
    assert (found["is_kept"], found["max_bytes"]) == (True, MIB)
    assert 0 < found["bytes"] < MIB


def test_another_opinion_on_the_same_picture_replaces_the_first(keeping: TestClient) -> None:
    give(keeping, picture(9), "verdict=defect")
    give(keeping, picture(9), "verdict=fine")

    assert [(one["verdict"], one["version"]) for one in listed(keeping)["pictures"]] == [("fine", 2)]


def test_the_list_comes_in_pages_and_counts_all_pictures(keeping: TestClient) -> None:
    for level in range(3):
        give(keeping, picture(level), "verdict=fine" if level else "verdict=defect")

    first = keeping.get(f"{FEEDBACK}?limit=2").json()
    second = keeping.get(f"{FEEDBACK}?limit=2&after={first['after']}").json()

    ids = [kept["id"] for page in (first, second) for kept in page["pictures"]]
    assert sorted(ids) == sorted(digest(picture(level)) for level in range(3))
    assert (len(first["pictures"]), second["after"]) == (2, None)
    assert [(page["fine"], page["defect"]) for page in (first, second)] == [(2, 1)] * 2
    assert keeping.get(f"{FEEDBACK}?after=1").status_code == 422


def test_the_export_has_a_folder_per_verdict_and_the_masks(keeping: TestClient) -> None:
    mask = MARK
    give(keeping, picture(1), "verdict=fine&who=Bo")
    give(keeping, picture(2), "verdict=defect", mask)

    answer = keeping.get(FEEDBACK, headers={"Accept": "application/zip"})

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        good, bad = digest(picture(1)), digest(picture(2))
        assert set(archive.namelist()) == {
            f"good/{good}.png", f"defect/{bad}.png", f"masks/{bad}.png", "feedback.csv",
        }  # fmt: skip
        assert archive.read(f"good/{good}.png") == picture(1)
        assert archive.read(f"masks/{bad}.png") == mask
        rows = {row["file"]: row for row in csv.DictReader(io.StringIO(archive.read("feedback.csv").decode()))}
    assert rows[f"good/{good}.png"]["who"] == "Bo"
    assert answer.headers["content-type"] == "application/zip"


def test_the_export_reads_all_pages(keeping: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Feedback.pictures
    monkeypatch.setattr("service.api.routes.feedback.PAGE", 2)
    monkeypatch.setattr(Feedback, "pictures", lambda *words, **options: pictures(*words, **options | {"limit": 2}))
    for level in range(5):
        give(keeping, picture(level), "verdict=fine")

    answer = keeping.get(FEEDBACK, headers={"Accept": "application/zip"})

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert set(archive.namelist()) == {f"good/{digest(picture(level))}.png" for level in range(5)} | {
            "feedback.csv"
        }


def test_the_export_waits_for_room_in_the_budget(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_feedback_bytes=MIB, request_timeout_s=0.3)
    noise = png(np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8))  # small ones are not counted
    give(client, noise, "verdict=fine")
    assert isinstance(client.app, App)
    budget = client.app.service.budget
    others = [Hold(budget, f"client {i}") for i in range(8)]
    for hold in others:
        hold.reserve(bytes=budget.limit.bytes // 8)

    full = client.get(FEEDBACK, headers={"Accept": "application/zip"})
    for hold in others:
        budget.replace(hold, Load())
    whole = client.get(FEEDBACK, headers={"Accept": "application/zip"})

    assert (full.status_code, full.json()["code"]) == (503, "queue-full")
    assert (whole.status_code, len(whole.content) > len(noise)) == (200, True)
    assert budget.total == Load()


def test_pictures_are_deleted_one_by_one_and_all_at_once_also_when_feedback_is_off(
    keeping: TestClient, make_client: MakeClient
) -> None:
    for level in (1, 2, 3):
        give(keeping, picture(level), "verdict=fine")

    assert keeping.delete(f"{FEEDBACK}/{digest(picture(1))}").status_code == 204
    again = keeping.delete(f"{FEEDBACK}/{digest(picture(1))}")

    assert (again.status_code, again.json()["code"]) == (404, "feedback-not-found")
    assert len(listed(keeping)["pictures"]) == 2
    assert make_client(max_feedback_bytes=0).delete(FEEDBACK).status_code == 204
    assert listed(keeping)["pictures"] == []


def test_the_disk_it_takes_is_bounded(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_feedback_bytes=4000)  # each picture counts some 70 bytes and 1024 for its row

    answers = [give(client, picture(level), "verdict=fine") for level in range(5)]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 409, 409]
    assert answers[-1].json()["code"] == "feedback-full"
    assert listed(client)["bytes"] <= 4000
    client.delete(FEEDBACK)
    assert give(client, picture(4), "verdict=fine").status_code == 201


@pytest.mark.parametrize(
    ("query", "content", "mask", "status", "code"),
    [
        ("verdict=good", picture(1), None, 422, "invalid-parameter"),
        ("", picture(1), None, 422, "invalid-parameter"),
        ("verdict=fine&who=", picture(1), None, 422, "invalid-parameter"),
        ("verdict=fine", b"no picture", None, 415, "unsupported-media-type"),
        ("verdict=fine", picture(1)[:40], None, 422, "broken-image"),
        ("verdict=fine", to_npy(np.zeros((4, 4), np.float32)), None, 415, "unsupported-media-type"),
        ("verdict=fine", b"", None, 400, "malformed-body"),
        ("verdict=fine", picture(1), MARK, 422, "invalid-parameter"),
        ("verdict=defect", picture(1), picture(1, side=5), 422, "invalid-parameter"),
        ("verdict=defect", picture(1), picture(0), 422, "invalid-parameter"),  # marks nothing
        ("verdict=defect", picture(1), picture(255), 422, "invalid-parameter"),  # marks everything
        ("verdict=defect", picture(1), b"no mask", 415, "unsupported-media-type"),
        ("verdict=fine&version=7", picture(1), None, 404, "version-not-found"),
    ],
)
def test_what_is_of_no_use_is_refused_and_not_kept(  # noqa: PLR0917  a request has these parts
    keeping: TestClient, query: str, content: bytes, mask: bytes | None, status: int, code: str
) -> None:
    refused = give(keeping, content, query, mask)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert listed(keeping)["pictures"] == []


def test_a_form_has_one_file_and_at_most_one_mask(keeping: TestClient) -> None:
    two = [("file", picture(1)), ("file", picture(2))]
    other = [("file", picture(1)), ("note", b"hello")]

    for files, code in ((two, "malformed-body"), (other, "invalid-parameter")):
        assert keeping.post(f"{FEEDBACK}?verdict=fine", files=files).json()["code"] == code
    assert keeping.post("/models/nobody/feedback?verdict=fine", content=picture(1)).json()["code"] == "model-not-found"


def test_every_acknowledged_picture_is_there_after_kill_9(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    publish_toy(tmp_path / "models")
    flags = ("--collections-url", f"sqlite:///{tmp_path / 'items.db'}", "--max-feedback-bytes", str(64 * MIB))
    pictures = [picture(level, side) for side in range(4, 24) for level in range(256)]
    acknowledged: set[str] = set()
    is_over = threading.Event()

    def write(port: int, first: int) -> None:
        for content in itertools.cycle(pictures[first::2]):
            with contextlib.suppress(OSError):  # the connection of a killed worker
                if ask(port, "POST", f"{FEEDBACK}?verdict=defect", content, {}).status == 201:
                    acknowledged.add(digest(content))
            if is_over.is_set():
                return

    with service_process(tmp_path / "models", *flags, workers=2) as process:
        writers = [threading.Thread(target=write, args=(process.port, first)) for first in range(2)]
        for writer in writers:
            writer.start()
        try:
            until(lambda: len(acknowledged) > 20, 10 * START_TIMEOUT_S)  # the models are still being loaded
            for pid in [process.popen.pid, *process.pids]:
                os.kill(pid, signal.SIGKILL)
        finally:
            is_over.set()
            for writer in writers:
                writer.join()
    with service_process(tmp_path / "models", *flags) as process:
        found = json.loads(ask(process.port, "GET", FEEDBACK, None, {}).body)["pictures"]
        archive = ask(process.port, "GET", FEEDBACK, None, {"Accept": "application/zip"}).body

    assert acknowledged <= {one["id"] for one in found}
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for name in files.namelist():
            if name.startswith("defect/"):
                assert digest(files.read(name)) == Path(name).stem


def test_a_picture_for_which_there_is_no_memory_beside_others_is_refused(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client(max_feedback_bytes=MIB, max_memory_bytes=16 * MIB, request_timeout_s=6)
    budget: Budget = client.app.service.budget  # type: ignore[attr-defined]  # the client knows an ASGI app
    others = Hold(budget, "others")
    others.reserve(bytes=8 * MIB)
    more = Hold(budget, "more")
    more.reserve(bytes=4 * MIB)

    refused = give(client, picture(1, side=2000), "verdict=fine")
    others.free()
    kept = give(client, picture(1, side=2000), "verdict=fine")

    assert (refused.status_code, refused.json()["code"]) == (503, "queue-full")
    assert kept.status_code == 201
