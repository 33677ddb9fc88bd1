"""Trainings that are asked for over HTTP, and the worker that does them, played by the tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import App, create_app
from service.collections.store.job import Lease
from service.settings import Settings
from tests.service.conftest import MakeClient, wait_for_models
from tests.service.files import png
from tests.service.toymodels import publish_toy

TRAINING = "/models/toy/training"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("training")
    publish_toy(home / "models")
    publish_toy(home / "models", name="blind", tasks=["denoise"])
    settings = {"models_dir": home / "models", "watch_interval_s": 3600, "device": "cpu"}
    is_postgres = request.param == "postgres"
    settings["collections_url"] = (
        request.getfixturevalue("postgres_url") if is_postgres else f"sqlite:///{home / 'items.db'}"
    )
    with TestClient(create_app(Settings.model_validate(settings)), raise_server_exceptions=False) as client:
        wait_for_models(client)
        yield client


@pytest.fixture
def client(shared: TestClient) -> TestClient:
    """One service for all tests; the trainings of those before are gone."""
    for found in shared.get(TRAINING).json()["trainings"]:
        shared.delete(f"{TRAINING}/{found['id']}")
    return shared


def lease(client: TestClient, worker: str = "bench") -> dict[str, Any] | None:
    answer = client.post("/training/lease", json={"worker": worker})
    assert answer.status_code in {200, 204}, answer.text
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return found


def begin(client: TestClient, work: str = "calibrate") -> dict[str, Any]:
    """A training that the worker `bench` has taken."""
    lease(client)
    assert client.post(f"{TRAINING}?work={work}").status_code == 202
    task = lease(client)
    assert task is not None
    return task


def tell(client: TestClient, task: dict[str, Any], what: str, **said: object) -> bool:
    body = {"job": task["job"], "token": task["token"], **said}
    answer = client.post(f"/training/{task['id']}/{what}", json=body)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["go_on"])


def training(client: TestClient, training_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{TRAINING}/{training_id}").json()
    return found


def lose(client: TestClient, task: dict[str, Any]) -> None:
    """The worker of a task is not heard of for longer than its lease."""
    app = client.app
    assert isinstance(app, App)
    service = app.service
    gone = Lease(task["job"], task["token"], "train", b"", 0)
    assert client.portal is not None
    client.portal.call(service.jobs.run, lambda queue: queue.beat(gone, lease_s=-1, done=0, steps=0))


def test_without_a_worker_the_commands_are_named(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()

    refused = client.post(f"{TRAINING}?work=fit")

    assert (refused.status_code, refused.json()["code"]) == (409, "no-training-worker")
    assert "python -m training fit anomaly --name toy --feedback URL" in refused.json()["detail"]
    assert client.get(TRAINING).json() == {"model": "toy", "workers": [], "trainings": []}


def test_a_version_goes_live_in_steps_that_people_can_follow(client: TestClient) -> None:
    assert lease(client) is None
    queued = client.post(f"{TRAINING}?work=fit").json()
    assert (queued["state"], queued["work"], queued["model"]) == ("queued", "fit", "toy")
    assert client.get(TRAINING).json()["workers"] == ["bench"]

    task = lease(client)
    assert task is not None
    assert (task["id"], task["model"], task["work"]) == (queued["id"], "toy", "fit")
    assert tell(client, task, "report", said="features", share=0.25, lines="read 12 images\n")
    assert tell(client, task, "report", said="folds", share=0.5, lines="learnt\n")
    running = training(client, task["id"])
    assert (running["state"], running["worker"], running["said"], running["share"]) == (
        "running",
        "bench",
        "folds",
        0.5,
    )
    assert running["log"] == "read 12 images\nlearnt\n"

    assert tell(client, task, "end", card="# toy 2", old_version=1)
    ready = training(client, task["id"])
    assert (ready["state"], ready["card"], ready["old_version"]) == ("ready", "# toy 2", 1)
    assert lease(client) is None  # nothing goes on before somebody says so

    assert client.post(f"{TRAINING}/{task['id']}/approve").json()["state"] == "approved"
    publication = lease(client)
    assert publication is not None
    assert (publication["id"], publication["work"]) == (task["id"], "publish")
    assert tell(client, publication, "end", version=2)
    assert (training(client, task["id"])["state"], training(client, task["id"])["version"]) == ("live", 2)
    assert client.post(f"{TRAINING}/{task['id']}/approve").json()["code"] == "training-not-ready"


def test_an_approval_that_finds_no_room_in_the_queue_can_be_given_again(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_toy(models_dir)
    client = make_client(max_jobs=1)
    task = begin(client, "fit")
    assert tell(client, task, "end", card="# toy 2", old_version=1)
    other = client.post("/denoise", content=png(np.zeros((4, 4), np.uint8)), headers={"Prefer": "respond-async"})
    approve = f"{TRAINING}/{task['id']}/approve"

    refused = client.post(approve)

    assert (refused.status_code, refused.json()["code"]) == (503, "jobs-full")
    assert training(client, task["id"])["state"] == "ready"
    client.delete(other.headers["location"])
    assert client.post(approve).json()["state"] == "approved"


def test_one_training_of_a_model_at_a_time(client: TestClient) -> None:
    task = begin(client)

    refused = client.post(f"{TRAINING}?work=fit")

    assert (refused.status_code, refused.json()["code"]) == (409, "training-busy")
    tell(client, task, "end", problem="too few pictures")
    assert client.post(f"{TRAINING}?work=fit").status_code == 202


def test_the_worker_of_a_cancelled_training_is_told_to_stop(client: TestClient) -> None:
    task = begin(client)

    assert client.delete(f"{TRAINING}/{task['id']}").status_code == 204

    assert not tell(client, task, "report", said="folds")
    assert not tell(client, task, "end", card="# toy 2", old_version=1)
    assert client.get(TRAINING).json()["trainings"] == []
    assert client.delete(f"{TRAINING}/{task['id']}").json()["code"] == "training-not-found"


def test_a_queued_training_that_is_cancelled_reaches_no_worker(client: TestClient) -> None:
    lease(client)
    queued = client.post(f"{TRAINING}?work=fit").json()["id"]

    client.delete(f"{TRAINING}/{queued}")

    assert lease(client) is None


def test_another_worker_takes_over_from_one_that_went_away(client: TestClient) -> None:
    first = begin(client)
    tell(client, first, "report", lines="begun\n")
    lose(client, first)

    second = lease(client, "other")

    assert second is not None
    assert second["id"] == first["id"]
    assert not tell(client, first, "report", lines="still here\n")  # it was only slow
    assert not tell(client, first, "end", card="# too late", old_version=1)
    assert tell(client, second, "end", card="# toy 2", old_version=1)
    found = training(client, first["id"])
    assert (found["state"], found["card"], found["worker"]) == ("ready", "# toy 2", "other")
    assert found["log"] == "begun\nother starts again, as the previous worker was lost\n"


def test_a_training_that_ends_its_workers_has_failed_and_says_so(client: TestClient) -> None:
    task = begin(client)
    for _ in range(2):
        lose(client, task)
        again = lease(client)
        assert again is not None
        task = again
    lose(client, task)

    assert lease(client) is None
    found = client.get(TRAINING).json()["trainings"][0]

    assert found["state"] == "failed"
    assert "3 workers started this job" in found["problem"]


def test_what_a_worker_says_of_a_failure_is_kept(client: TestClient) -> None:
    task = begin(client)

    tell(client, task, "end", problem="none of these images is new")

    found = training(client, task["id"])
    assert (found["state"], found["problem"]) == ("failed", "none of these images is new")


def test_only_the_last_trainings_and_lines_are_kept(client: TestClient) -> None:
    for _ in range(22):
        task = begin(client)
        for _ in range(2):
            tell(client, task, "report", lines="0123456789abcde\n" * 4000)
        tell(client, task, "end", problem="no")

    found = client.get(TRAINING).json()["trainings"]

    assert len(found) == 20
    assert len(training(client, task["id"])["log"]) == 64 * 1024


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", TRAINING, None, 422, "invalid-parameter"),
        ("POST", f"{TRAINING}?work=publish", None, 422, "invalid-parameter"),
        ("POST", "/models/nobody/training?work=fit", None, 404, "model-not-found"),
        ("POST", "/models/blind/training?work=fit", None, 422, "task-not-offered"),
        ("POST", f"{TRAINING}/nothing/approve", None, 404, "training-not-found"),
        ("GET", f"{TRAINING}/nothing", None, 404, "training-not-found"),
        ("POST", "/training/lease", b"{}", 422, "invalid-parameter"),
        ("POST", "/training/lease", b'{"worker": "', 400, "malformed-body"),
        ("POST", "/training/x/report", b'{"job": "a", "token": "b", "share": 2}', 422, "invalid-parameter"),
        ("POST", "/training/x/end", b'{"job": "a", "token": "b"}', 422, "invalid-parameter"),
        ("POST", "/training/x/end", b'{"job": "a", "token": "b", "card": "c"}', 422, "invalid-parameter"),
        (
            "POST",
            "/training/x/end",
            b'{"job": "a", "token": "b", "version": 1, "problem": "c"}',
            422,
            "invalid-parameter",
        ),
    ],
)
def test_mistakes_are_refused(  # noqa: PLR0917  a request has these parts
    client: TestClient, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    refused = client.request(method, path, content=body)

    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text


def test_a_stranger_can_end_nothing(client: TestClient) -> None:
    task = begin(client)

    assert not tell(client, task | {"token": "guess"}, "end", problem="sabotage")

    assert training(client, task["id"])["state"] == "running"


def test_asking_and_approving_take_a_key_that_administers(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    keys = {right: f"a-key-that-may-{right}" for right in ("read", "write", "admin")}
    client = make_client(read_keys=[keys["read"]], write_keys=[keys["write"]], api_keys=[keys["admin"]])

    def status(right: str, method: str, path: str) -> int:
        headers = {"X-API-Key": keys[right]}
        return client.request(method, path, headers=headers, json={"worker": "bench"}).status_code

    assert status("read", "GET", TRAINING) == 200
    for method, path in (
        ("POST", f"{TRAINING}?work=fit"),
        ("POST", f"{TRAINING}/x/approve"),
        ("DELETE", f"{TRAINING}/x"),
        ("POST", "/training/lease"),
        ("POST", "/training/x/end"),
    ):
        assert status("write", method, path) == 403
    assert status("admin", "POST", "/training/lease") == 204
