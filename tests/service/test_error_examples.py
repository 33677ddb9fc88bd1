"""Every error really happens here, and what it says is what its example in /docs and /problems/{code} says."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service.api.app import create_app
from service.collections.store import open_jobs
from service.collections.store.job import JobBounds
from service.contract.container import read_container, write_container
from service.errors import PROBLEMS
from service.media_types import HOURGLASS_TYPE
from service.settings import Settings
from tests.service.conftest import wait_for_models
from tests.service.files import hand_png, png, to_npy
from tests.service.rawclient import RawClient, post
from tests.service.slowmodel import Process, flat_png, publish_slow, service_process, until
from tests.service.test_image_sources import Site
from tests.service.toymodels import Axis, make_graph, publish_codec, publish_toy

DIGIT = png(np.full((4, 4), 200, np.uint8))
FORM = "multipart/form-data; boundary=XyZ"
PART = b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + DIGIT
KEY = "correct-horse-battery"

_VALUES = re.compile(r"'[^']*'|\b[0-9a-f]{8,}\b|\d[\d.]*(e-\d+)?")


def without_values(text: str) -> str:
    """`text` with every quoted value, number and hexadecimal digest alike."""
    return _VALUES.sub("*", text)


@dataclass(frozen=True)
class Place:
    """A service over models named as in the examples, and one over models that are there for one error each."""

    home: Path
    client: TestClient
    others: TestClient

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> str:
        return self._detail(self.client, method, path, body, headers)

    def ask_others(self, method: str, path: str, body: bytes = b"", **headers: str) -> str:
        return self._detail(self.others, method, path, body, headers)

    def ask_with(self, settings: dict[str, object], *requests: tuple[str, str, bytes], **headers: str) -> str:
        """What a service with other settings says to the last of several requests."""
        with service_over(self.home, **settings) as client:
            wait_for_models(client)
            for request in requests[:-1]:
                client.request(request[0], request[1], content=request[2])
            return self._detail(client, *requests[-1], headers)

    @staticmethod
    def _detail(client: TestClient, method: str, path: str, body: bytes, headers: dict[str, str]) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return detail_of(client.request(method, path, content=body, headers=named).content)


def detail_of(content: bytes) -> str:
    document = json.loads(content)
    return str(document["detail"] if "detail" in document else document["error"])  # below /v2 there is only `error`


def moved_image(at: Place) -> str:
    with Site() as site:
        asked = ("POST", f"/denoise?model=digits&image=http://{site.host}/moved", b"")
        return at.ask_with({"image_hosts": site.host}, asked)


def aliased(at: Place) -> dict[str, object]:
    """The settings of a service without aliases."""
    (at.home / "aliases.db").unlink(missing_ok=True)
    return {"collections_url": f"sqlite:///{at.home / 'aliases.db'}"}


def put_alias(name: str) -> tuple[str, str, bytes]:
    return "PUT", f"/models/digits/aliases/{name}", b'{"version": 1}'


def service_over(home: Path, **settings: object) -> TestClient:
    options = {"models_dir": home / "models", "watch_interval_s": 3600, "device": "cpu"}
    options["collections_url"] = f"sqlite:///{home / 'items.db'}"
    app = create_app(Settings.model_validate(options | settings))
    app.add_api_route("/mistake", make_a_mistake)  # no request is known to make one
    return TestClient(app, raise_server_exceptions=False)


async def make_a_mistake() -> None:
    raise ZeroDivisionError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("place")
    models = home / "models"
    for version in (1, 2):
        publish_toy(models, name="digits", version=version, resize="reject", default_for=("denoise",))
    publish_toy(models, name="digits-unet", tasks=["denoise"])
    others = home / "others"
    publish_codec(others, name="digits-compressed")
    publish_slow(others)
    publish_slow(home / "slower", sines=200, copies=100)  # many times what is expected before it has ever run
    # 1 / x: infinite for black pixels.
    shape: list[Axis] = ["n", 1, 4, 4]
    inverse = make_graph([helper.make_node("Reciprocal", ["x"], ["x_hat"])], {"x": shape}, {"x_hat": shape})
    publish_toy(others, name="digits", graphs={"denoise": inverse})
    with service_over(home) as client, service_over(home, models_dir=others) as other_client:
        for one in (client, other_client):
            wait_for_models(one)
        for item in ("/collections/parts/items/a?model=digits&version=1", "/collections/screws/items/a?model=digits"):
            assert client.put(item, content=DIGIT).status_code == 201
        yield Place(home, client, other_client)


@pytest.fixture(scope="module")
def process(place: Place) -> Iterator[Process]:
    """The same as a process of its own, for what only a real connection shows."""
    with service_process(place.home / "models", "--body-timeout-s", "0.5", "--max-queue-images", "1") as process:
        yield process


def other_decoder(place: Place) -> str:
    file = place.others.post("/compress", content=DIGIT).content
    found = read_container(file, max_images=1)
    changed = write_container(type(found)(**{**vars(found), "decoder": bytes(len(found.decoder))}))
    return place.ask_others("POST", "/decompress", changed, content_type=HOURGLASS_TYPE)


def broken_container(place: Place) -> str:
    file = place.others.post("/compress", content=DIGIT).content
    return place.ask_others("POST", "/decompress", file[:-1], content_type=HOURGLASS_TYPE)


def broken_image(place: Place) -> str:
    at = DIGIT.index(b"IDAT") + 6
    return place.ask("POST", "/denoise?model=digits", DIGIT[:at] + bytes([DIGIT[at] ^ 1]) + DIGIT[at + 1 :])


def second_training(place: Place) -> str:
    place.client.post("/training/lease", json={"worker": "bench"})
    first = place.client.post("/models/digits/training?work=fit").json()["id"]
    detail = place.ask("POST", "/models/digits/training?work=fit")
    place.client.delete(f"/models/digits/training/{first}")
    return detail


def early_approval(place: Place) -> str:
    place.client.post("/training/lease", json={"worker": "bench"})
    training = place.client.post("/models/digits/training?work=fit").json()["id"]
    place.client.post("/training/lease", json={"worker": "bench"})
    detail = place.ask("POST", f"/models/digits/training/{training}/approve")
    place.client.delete(f"/models/digits/training/{training}")
    return detail


def not_ready(place: Place) -> str:
    (place.home / "nothing").mkdir()
    with service_over(place.home, models_dir=place.home / "nothing") as client:
        until(lambda: "loaded" not in client.post("/denoise", content=DIGIT).text)
        detail = detail_of(client.post("/denoise", content=DIGIT).content)
    return detail.replace(str(place.home / "nothing"), "models")


def draining(place: Place) -> str:
    with service_over(place.home) as client:
        client.app.service.admission.start_draining()  # type: ignore[attr-defined]  # it is a FastAPI
        return detail_of(client.post("/denoise?model=digits", content=DIGIT).content)


def too_many_guesses(place: Place) -> str:
    with service_over(place.home, api_keys=KEY) as client:
        for _ in range(10):
            client.get("/models", headers={"X-API-Key": "another"})
        return detail_of(client.get("/models", headers={"X-API-Key": "another"}).content)


def store_unavailable(place: Place) -> str:
    file = place.home / "other.db"
    file.write_bytes(b"no database" * 1000)
    detail = place.ask_with({"collections_url": f"sqlite:///{file}"}, ("GET", "/collections", b""))
    return detail.replace(str(file), "/data/items.db")


def a_job(place: Place, *, leases: int) -> str:
    """The address of a job that two workers may try, after so many have taken it and gone away."""
    with contextlib.closing(open_jobs(f"sqlite:///{place.home / 'items.db'}")) as queue:
        kind = f"leased-{leases}-times"  # other jobs of this place are not leased instead
        job = queue.submit(kind, b"", bounds=JobBounds(9, 2**20, 60.0), max_attempts=2)
        for _ in range(leases):
            queue.lease(kind, lease_s=0.0)
    return f"/jobs/{job.id}"


def job_lost(place: Place) -> str:
    return str(place.client.get(a_job(place, leases=3)).json()["problem"]["detail"])


def jobs_full(place: Place) -> str:
    a_job(place, leases=0)
    return place.ask_with({"max_jobs": 1}, ("POST", "/denoise?model=digits", DIGIT), prefer="respond-async")


PROVOKE: dict[str, Callable[[Place], str]] = {
    "malformed-body": lambda at: at.ask("POST", "/denoise?model=digits", PART, content_type=FORM),
    "missing-api-key": lambda at: at.ask_with({"api_keys": KEY}, ("POST", "/denoise", DIGIT)),
    "wrong-api-key": lambda at: at.ask_with({"api_keys": KEY}, ("POST", "/denoise", DIGIT), x_api_key="another"),
    "key-not-enough": lambda at: at.ask_with({"read_keys": KEY}, ("DELETE", "/collections/parts", b""), x_api_key=KEY),
    "too-many-guesses": too_many_guesses,
    "wrong-host": lambda at: at.ask("GET", "/models", host="evil.example"),
    "unload-refused": lambda at: at.ask("POST", "/v2/repository/models/digits.denoise/unload"),
    "route-not-found": lambda at: at.ask("POST", "/denoize", DIGIT),
    "model-not-found": lambda at: at.ask("POST", "/denoise?model=digit", DIGIT),
    "alias-not-found": lambda at: at.ask_with(
        aliased(at),
        *(put_alias(name) for name in ("prod", "test")),
        ("POST", "/denoise?model=digits@prd", DIGIT),
    ),
    "too-many-aliases": lambda at: at.ask_with(aliased(at), *(put_alias(f"a{i}") for i in range(17))),
    "no-former-version": lambda at: at.ask_with(
        aliased(at), put_alias("prod"), ("POST", "/models/digits/aliases/prod/rollback", b"")
    ),
    "model-file-not-found": lambda at: at.ask("GET", "/models/digits/preview"),
    "version-not-found": lambda at: at.ask("POST", "/denoise?model=digits&version=7", DIGIT),
    "collection-not-found": lambda at: at.ask("GET", "/collections/part"),
    "item-not-found": lambda at: at.ask("GET", "/collections/parts/items/a17"),
    "feedback-not-found": lambda at: at.ask("DELETE", f"/models/digits/feedback/{'0' * 64}"),
    "job-not-found": lambda at: at.ask("GET", "/jobs/q83vEjRWeJo"),
    "job-not-done": lambda at: at.ask("GET", f"{a_job(at, leases=1)}/result"),
    "job-lost": job_lost,
    "jobs-full": jobs_full,
    "method-not-allowed": lambda at: at.ask("GET", "/denoise"),
    "not-acceptable": lambda at: at.ask("POST", "/denoise?model=digits", DIGIT, accept="audio/ogg"),
    "other-decoder": other_decoder,
    "model-conflict": lambda at: at.ask("PUT", "/collections/parts/items/b?model=digits&version=2", DIGIT),
    "no-labels": lambda at: at.ask("POST", "/collections/parts/classify", DIGIT),
    "collection-full": lambda at: at.ask_with(
        {"max_items": 1}, ("PUT", "/collections/parts/items/b?model=digits&version=1", DIGIT)
    ),
    "training-not-found": lambda at: at.ask("DELETE", "/models/digits/training/q83vEjRWeJo"),
    "no-training-worker": lambda at: at.ask_with(
        {"collections_url": f"sqlite:///{at.home / 'idle.db'}"}, ("POST", "/models/digits/training?work=calibrate", b"")
    ),
    "training-busy": second_training,
    "training-not-ready": early_approval,
    "feedback-off": lambda at: at.ask("POST", "/models/digits/feedback?verdict=fine", DIGIT),
    "feedback-full": lambda at: at.ask_with(
        {"max_feedback_bytes": 1}, ("POST", "/models/digits/feedback?verdict=fine", DIGIT)
    ),
    "body-too-large": lambda at: at.ask_with({"max_body_bytes": 1024}, ("POST", "/denoise?model=digits", bytes(1025))),
    "too-many-pixels": lambda at: at.ask_with({"max_pixels": 99}, ("POST", "/denoise?model=digits", flat_png(10))),
    "too-many-images": lambda at: at.ask_with(
        {"max_images": 2}, ("POST", "/encode?model=digits", to_npy(np.zeros((3, 1, 4, 4), np.float32)))
    ),
    "too-much-memory": lambda at: at.ask_with(
        {"max_request_memory_bytes": 2**20},
        ("POST", "/denoise?model=digits", to_npy(np.zeros((600, 600), np.float32))),
    ),
    "too-much-work": lambda at: at.ask_with(
        {"models_dir": at.home / "slower", "request_timeout_s": 0.02}, ("POST", "/denoise?model=slow", flat_png(4000))
    ),
    "unsupported-media-type": lambda at: at.ask("POST", "/denoise?model=digits", b"%PDF-1.7 and so on"),
    "unsupported-encoding": lambda at: at.ask("POST", "/denoise?model=digits", DIGIT, content_encoding="gzip"),
    "invalid-parameter": lambda at: at.ask("POST", "/denoise?version=abc", DIGIT),
    "task-not-offered": lambda at: at.ask("POST", "/encode?model=digits-unet", DIGIT),
    "broken-image": broken_image,
    "unsupported-image": lambda at: at.ask(
        "POST", "/denoise?model=digits", hand_png(4, 4, bytes(4 * 33), depth=16, colour=6)
    ),
    "broken-container": broken_container,
    "size-mismatch": lambda at: at.ask("POST", "/denoise?model=digits", flat_png(5)),
    "invalid-array": lambda at: at.ask("POST", "/denoise?model=digits", to_npy(np.zeros((4, 4), np.complex64))),
    "invalid-latent": lambda at: at.ask(
        "POST", "/decode?model=digits", b'{"latent": [0, 0, 0]}', content_type="application/json"
    ),
    "invalid-metadata": lambda at: at.ask("PUT", "/collections/parts/items/b", DIGIT, x_metadata="[1, 2]"),
    "unreachable-rate": lambda at: at.ask("POST", "/anomaly?model=digits&max_fpr=1e-06", DIGIT),
    "non-finite-result": lambda at: at.ask_others("POST", "/denoise?model=digits", flat_png(4, 0)),
    "internal-error": lambda at: at.ask("GET", "/mistake"),
    "image-unreachable": moved_image,
    "not-ready": not_ready,
    "store-unavailable": store_unavailable,
    "draining": draining,
    "deadline-exceeded": lambda at: at.ask_with(
        {"models_dir": at.home / "slower", "request_timeout_s": 0.02}, ("POST", "/denoise?model=slow", flat_png(200))
    ),
}


def malformed_request(port: int) -> str:
    with RawClient(port) as client:
        client.send(b"\x16\x03\x01 this is TLS\r\n\r\n")
        return detail_of(client.reply().body)


def headers_too_large(port: int) -> str:
    with RawClient(port) as client:
        client.send(b"GET /models HTTP/1.1\r\nX: " + b"x" * 40_000)
        return detail_of(client.reply().body)


def request_timeout(port: int) -> str:
    with RawClient(port) as client:
        client.send_head("/denoise?model=digits", len(DIGIT))
        return detail_of(client.reply().body)


def queue_full(port: int) -> str:
    with RawClient(port) as taker:
        taker.take_a_place("/denoise?model=digits", len(DIGIT))
        return detail_of(post(port, "/denoise?model=digits", DIGIT).body)


PROVOKE_OVER_A_SOCKET: dict[str, Callable[[int], str]] = {
    "malformed-request": malformed_request,
    "headers-too-large": headers_too_large,
    "request-timeout": request_timeout,
    "queue-full": queue_full,
}


def test_no_error_is_left_out() -> None:
    assert PROVOKE.keys() | PROVOKE_OVER_A_SOCKET.keys() == PROBLEMS.keys()


@pytest.mark.parametrize("code", PROVOKE)
def test_the_example_of_an_error_is_what_it_says(place: Place, code: str) -> None:
    detail = PROVOKE[code](place)

    assert without_values(detail) == without_values(PROBLEMS[code].example)


@pytest.mark.parametrize("code", PROVOKE_OVER_A_SOCKET)
def test_the_example_of_an_error_of_a_connection_is_what_it_says(process: Process, code: str) -> None:
    detail = PROVOKE_OVER_A_SOCKET[code](process.port)

    assert without_values(detail) == without_values(PROBLEMS[code].example)
