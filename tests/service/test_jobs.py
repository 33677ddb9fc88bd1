"""Jobs over HTTP: taken, watched, cancelled, answered as the request itself would have been, and kept over a kill."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from service.api.app import App
from service.api.responses import Stream
from service.api.routes.jobs import watch_job
from service.collections.store.jobs import JobQueue
from service.errors import QueueFull
from service.http.budget import Hold, Load
from service.http.head import HeadAsGet
from tests.service.conftest import MakeClient
from tests.service.files import pixels_of, png
from tests.service.slowmodel import Process, flat_png, publish_slow, service_process, until
from tests.service.toymodels import publish_toy

ASYNC = {"Prefer": "respond-async"}
KEYS = ("first-key-of-sixteen", "other-key-of-sixteen")
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def job_of(client: TestClient | httpx.Client, location: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(location).json()
    return found


def ended(client: TestClient | httpx.Client, location: str) -> dict[str, Any]:
    until(lambda: job_of(client, location)["ended"] is not None)
    return job_of(client, location)


def test_a_request_that_prefers_it_becomes_a_job_with_the_answer_it_would_have_had(client: TestClient) -> None:
    direct = client.post("/denoise?model=toy", content=flat_png(4))

    taken = client.post("/denoise?model=toy", content=flat_png(4), headers=ASYNC)

    assert taken.status_code == 202, taken.text
    assert taken.headers["preference-applied"] == "respond-async"
    location = taken.headers["location"]
    assert location == f"/jobs/{taken.json()['id']}"
    job = ended(client, location)
    assert (job["state"], job["position"], job["progress"], job["problem"]) == (
        "done",
        None,
        {"done": 1, "of": 1},
        None,
    )
    result = client.get(f"{location}/result")
    assert (result.status_code, result.content) == (200, direct.content)
    assert {name: result.headers[name] for name in ("content-type", "x-model")} == {
        "content-type": "image/png",
        "x-model": "toy/1",
    }


def test_a_result_waits_for_room_in_the_budget_before_it_is_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {**ASYNC, "Accept": "application/x-npy"}
    location = client.post("/denoise?model=toy", content=flat_png(300), headers=headers).headers["location"]
    ended(client, location)
    budget = client.app.service.budget  # type: ignore[attr-defined]  # any ASGI application, to its type
    others = [Hold(budget, name) for name in ("first", "second")]  # whose clients do not read their answers
    for hold in others:
        budget.replace(hold, Load(budget.limit.bytes // 2))

    with monkeypatch.context() as patch:
        patch.delattr(JobQueue, "result")  # reading it would be a 500
        refused = client.get(f"{location}/result")
    for hold in others:
        budget.replace(hold, Load())
    answer = client.get(f"{location}/result")

    assert (refused.status_code, refused.json()["code"]) == (503, "queue-full")
    assert (answer.status_code, len(answer.content)) == (200, 128 + 4 * 300 * 300)


def test_work_that_is_too_much_for_one_answer_is_done_as_a_job(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = flat_png(300)  # small ones are not counted
    monkeypatch.setattr("service.api.service._MOST_TIMES_TIMEOUT", 0)

    refused = client.post("/denoise?model=toy", content=picture)
    taken = client.post("/denoise?model=toy", content=picture, headers=ASYNC)

    assert (refused.status_code, refused.json()["code"]) == (413, "too-much-work")
    assert "Prefer: respond-async" in refused.json()["detail"]
    assert ended(client, taken.headers["location"])["state"] == "done"


@pytest.mark.parametrize(
    ("path", "content", "headers"),
    [
        ("/anomaly", flat_png(4), {}),
        ("/anomaly?view=mask", flat_png(4), {"Accept": "image/tiff"}),
        ("/encode", flat_png(4), {"Accept": "application/x-npy"}),
        ("/decode", b'{"latent": [0.1, 0.2, 0.3, 0.4]}', {"Content-Type": "application/json"}),
    ],
)
def test_every_endpoint_of_images_takes_jobs(
    client: TestClient, path: str, content: bytes, headers: dict[str, str]
) -> None:
    direct = client.post(path, content=content, headers=headers)

    taken = client.post(path, content=content, headers=headers | ASYNC)

    location = taken.headers["location"]
    ended(client, location)
    result = client.get(f"{location}/result")
    assert (direct.status_code, result.status_code) == (200, 200)
    assert (result.content, result.headers["content-type"]) == (direct.content, direct.headers["content-type"])


def test_several_files_are_one_job(client: TestClient) -> None:
    files = [("file", flat_png(4, level)) for level in (10, 20)]

    taken = client.post("/anomaly", files=files, headers=ASYNC)

    location = taken.headers["location"]
    assert ended(client, location)["progress"] == {"done": 2, "of": 2}
    assert client.get(f"{location}/result").content == client.post("/anomaly", files=files).content


def test_a_job_that_fails_has_the_problem_of_the_request(client: TestClient) -> None:
    direct = client.post("/denoise", content=b"no image")

    location = client.post("/denoise", content=b"no image", headers=ASYNC).headers["location"]

    job = ended(client, location)
    result = client.get(f"{location}/result")
    assert (job["state"], job["problem"]) == ("failed", direct.json())
    assert (result.status_code, result.json()) == (direct.status_code, direct.json())
    assert result.headers["content-type"] == "application/problem+json"


def test_a_query_with_a_mistake_is_refused_at_once_also_a_long_one(client: TestClient) -> None:
    for query in ("sigma=loud", f"metadata={'x' * 400}"):
        refused = client.post(f"/denoise?{query}", content=flat_png(4), headers=ASYNC)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-parameter")


def test_a_job_that_is_none_is_404(client: TestClient) -> None:
    answers = [client.get(f"/jobs/none{rest}") for rest in ("", "/result", "/events")] + [client.delete("/jobs/none")]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "job-not-found")] * 4


def test_a_service_that_takes_no_jobs_answers_at_once_and_keeps_none(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_jobs=0)

    answer = client.post("/denoise", content=flat_png(4), headers=ASYNC)

    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers
    assert client.post("/denoise?webhook=https://a.example/", content=flat_png(4)).status_code == 422
    assert client.get("/jobs/nothing").status_code == 404
    assert not (models_dir.parent / "collections").exists()


def test_jobs_are_bounded_and_one_that_is_deleted_makes_room(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_jobs=1)
    location = client.post("/denoise", content=flat_png(4), headers=ASYNC).headers["location"]

    refused = client.post("/denoise", content=flat_png(4), headers=ASYNC)

    assert (refused.status_code, refused.json()["code"]) == (503, "jobs-full")
    assert int(refused.headers["retry-after"]) > 0
    ended(client, location)
    assert client.delete(location).status_code == 204
    assert client.get(f"{location}/result").status_code == 404
    assert client.post("/denoise", content=flat_png(4), headers=ASYNC).status_code == 202


def test_a_job_is_seen_and_cancelled_with_its_own_key_alone(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(read_keys=KEYS)
    own, other = ({"X-API-Key": key} for key in KEYS)
    location = client.post("/denoise", content=flat_png(4), headers=ASYNC | own).headers["location"]

    assert client.get(location).status_code == 401
    for rest in ("", "/result", "/events"):
        assert client.get(f"{location}{rest}", headers=other).status_code == 404
    assert client.delete(location, headers=other).status_code == 404
    until(lambda: client.get(location, headers=own).json()["state"] == "done")
    assert client.delete(location, headers=own).status_code == 204


def test_events_tell_of_a_job_until_it_ends(client: TestClient) -> None:
    location = client.post("/denoise", content=flat_png(4), headers=ASYNC).headers["location"]

    answer = client.get(f"{location}/events")  # ends with the job

    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n") if not block.startswith(":")]
    states = [json.loads(data.removeprefix("data: "))["state"] for name, data in events if name == "event: job"]
    assert states[-1] == "done"
    assert len(states) == len(events)


def test_head_of_events_has_the_headers_and_does_not_wait_for_the_job(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, App)
    service = app.service
    assert client.portal is not None
    waiting = partial(JobQueue.submit, kind="none-takes-it", payload=b"", bounds=service.job_bounds)
    job = client.portal.call(service.jobs.write, waiting)

    answer = client.head(f"/jobs/{job.id}/events")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    until(lambda: service.watcher.count == 0)  # the stream is closed, too


def test_streams_that_start_at_the_same_time_are_counted_one_by_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = client.app
    assert isinstance(app, App)
    service = app.service
    assert client.portal is not None
    monkeypatch.setattr("service.api.routes.jobs._MAX_STREAMS", 2)
    waiting = partial(JobQueue.submit, kind="none-takes-it", payload=b"", bounds=service.job_bounds)
    job = client.portal.call(service.jobs.write, waiting)

    async def start() -> list[object]:
        requests = [Request({"type": "http", "app": app}) for _ in range(3)]
        answers = await asyncio.gather(*(watch_job(request, job.id) for request in requests), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Stream):
                await cast("AsyncGenerator[bytes]", answer.body_iterator).aclose()
        return [type(answer) for answer in answers]

    assert client.portal.call(start) == [Stream, Stream, QueueFull]
    assert service.watcher.count == 0


def test_head_of_any_stream_ends_after_its_headers() -> None:
    closed: list[str] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            closed.append("closed")

    app = HeadAsGet(Stream(parts(), headers={"X-Model": "toy/1"}))
    answer = TestClient(app).head("/")

    assert (answer.status_code, answer.headers["x-model"], answer.content) == (200, "toy/1", b"")
    assert closed == ["closed"]


# A service process, a job that takes long, and what can happen meanwhile.

SIDE = 2000  # four million pixels: nine tiles of `slow`


@pytest.fixture(scope="module")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    publish_slow(directory)
    return directory


def send(process: Process, content: bytes) -> str:
    taken = httpx.post(f"{process.url}/denoise?model=slow", content=content, headers=ASYNC, timeout=60)
    assert taken.status_code == 202, taken.text
    return f"{process.url}{taken.headers['location']}"


def state_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url, timeout=60).json()
    return found


def test_progress_counts_tiles_and_a_running_job_can_be_cancelled(slow_models: Path, tmp_path: Path) -> None:
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db")
    with service_process(slow_models, *flags) as process:
        first, second = send(process, flat_png(2 * SIDE)), send(process, flat_png(SIDE, 60))
        until(lambda: state_of(first)["progress"]["done"] >= 1)

        seen = state_of(first)
        waiting = state_of(second)
        early = httpx.get(f"{first}/result", timeout=60)
        assert httpx.delete(first, timeout=60).status_code == 204

        assert (seen["state"], seen["progress"]["of"]) == ("running", 36)
        assert (waiting["state"], waiting["position"]) == ("queued", 0)
        assert (early.status_code, early.json()["code"]) == (409, "job-not-done")
        assert state_of(first)["code"] == "job-not-found"
        until(lambda: state_of(second)["ended"])
        result = httpx.get(f"{second}/result", timeout=60)
        assert (pixels_of(result.content) == 30).all()


def test_a_job_outlives_kill_9_and_is_done_once(slow_models: Path, tmp_path: Path) -> None:
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db", "--job-lease-s", "1")
    with service_process(slow_models, *flags) as process:
        url = send(process, flat_png(SIDE))
        until(lambda: state_of(url)["progress"]["done"] >= 1)
        os.kill(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
    path = url.removeprefix(process.url)

    with service_process(slow_models, *flags) as process:
        until(lambda: state_of(f"{process.url}{path}")["ended"])

        job = state_of(f"{process.url}{path}")
        result = httpx.get(f"{process.url}{path}/result", timeout=60)
        assert (job["state"], job["attempts"]) == ("done", 2)
        assert (pixels_of(result.content) == 50).all()


@pytest.mark.slow
def test_one_worker_of_several_takes_over_what_a_killed_one_had(slow_models: Path, tmp_path: Path) -> None:
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db", "--job-lease-s", "1")
    with service_process(slow_models, *flags, workers=2) as process:
        url = send(process, flat_png(SIDE))
        until(lambda: state_of(url)["progress"]["done"] >= 1)
        for pid in process.pids[:2]:  # one of them has the job, and nobody outside knows which
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        until(lambda: _ended_somewhere(url))

        assert state_of(url)["state"] == "done"
        assert (pixels_of(httpx.get(f"{url}/result", timeout=60).content) == 50).all()


def _ended_somewhere(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return state_of(url)["ended"] is not None
    return False


@pytest.mark.slow
def test_sigterm_gives_a_running_job_back_and_the_next_process_does_it(slow_models: Path, tmp_path: Path) -> None:
    flags = ("--collections-url", f"sqlite:///{tmp_path}/items.db", "--grace-s", "0")
    with service_process(slow_models, *flags) as process:
        url = send(process, flat_png(SIDE))
        until(lambda: state_of(url)["progress"]["done"] >= 1)
        process.stop()
    path = url.removeprefix(process.url)

    with service_process(slow_models, *flags) as process:
        until(lambda: state_of(f"{process.url}{path}")["ended"])

        assert (state_of(f"{process.url}{path}")["state"]) == "done"


# Webhooks.


class Receiver:
    """A web server that remembers what it was told, and refuses as often as `refusals` says."""

    def __init__(self, refusals: int = 0) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.refusals = refusals
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(500 if len(outer.messages) <= outer.refusals else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def receiving(refusals: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(refusals)
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def test_a_webhook_is_called_signed_until_it_is_taken_or_eight_times(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.jobs.webhook.pause_s", lambda _: 0.0)
    publish_toy(models_dir)
    with receiving(refusals=2) as receiver, receiving(refusals=100) as deaf:
        client = make_client(webhook_hosts=(receiver.host, deaf.host), webhook_secret=SECRET)

        taken = client.post(f"/denoise?webhook=http://{receiver.host}/done?a=b", content=flat_png(4))
        in_vain = client.post(f"/denoise?webhook=http://{deaf.host}/", content=flat_png(4)).headers["location"]

        assert taken.status_code == 202, taken.text
        assert taken.json()["webhook"] == "waiting"
        until(lambda: job_of(client, taken.headers["location"])["webhook"] == "delivered")
        until(lambda: job_of(client, in_vain)["webhook"] == "failed")
        assert job_of(client, in_vain)["state"] == "done"
    assert len(deaf.messages) == 8
    assert len(receiver.messages) == 3
    headers, body = receiver.messages[-1]
    told = json.loads(body)
    assert (told["id"], told["state"]) == (taken.json()["id"], "done")
    signed = f"{told['id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == told["id"]


def test_a_webhook_to_another_host_is_refused_and_nothing_is_kept(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(webhook_hosts=("hooks.example",), webhook_secret=SECRET)
    urls = [
        "http://169.254.169.254/latest/meta-data",
        "http://hooks.example:8443/",
        "https://hooks.example.evil.example/",
        "https://hooks.example@evil.example/",
        "https://user:secret@hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "https://[::1]/",
        "nothing",
    ]

    answers = [client.post("/denoise", params={"webhook": url}, content=flat_png(4)) for url in urls]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(422, "invalid-parameter")] * len(
        urls
    )
    assert not (models_dir.parent / "collections").exists()


def test_half_transparent_pictures_stay_so_in_a_job(client: TestClient) -> None:
    picture = png(np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 7, np.uint8)]))

    location = client.post("/denoise", content=picture, headers=ASYNC).headers["location"]

    ended(client, location)
    assert client.get(f"{location}/result").content == client.post("/denoise", content=picture).content
