"""What can be wrong with a request as a whole, and that every error is a problem document."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service.errors import PROBLEMS
from service.http.negotiation import negotiate
from service.tasks.denoise import Denoise
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.toymodels import Axis, make_graph, publish_toy

DIGIT = png(np.full((4, 4), 100, np.uint8))
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
NAMELESS = b'--b\r\nContent-Disposition: form-data; name=""\r\n\r\nx\r\n--b--'
HEADLESS = b"--b\r\n\r\nx\r\n--b--"


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "error"),
    [
        (("POST", "/denoise"), {}, b"", (400, "malformed-body")),
        (("POST", "/denoise"), {"Content-Type": "multipart/form-data"}, b"x", (400, "malformed-body")),
        (("POST", "/denoise"), {"Content-Type": "multipart/form-data; boundary=b"}, b"x", (400, "malformed-body")),
        (("POST", "/denoise"), {"Content-Type": "multipart/form-data; boundary=b"}, b"--b--", (400, "malformed-body")),
        (("POST", "/denoise"), {"Content-Type": "multipart/form-data; boundary=b"}, HEADLESS, (400, "malformed-body")),
        (("POST", "/denoize"), {}, DIGIT, (404, "route-not-found")),
        (("POST", "/%ff%ed%a0%80"), {}, DIGIT, (404, "route-not-found")),
        (("POST", "/denoise?model=nobody"), {}, DIGIT, (404, "model-not-found")),
        (("POST", "/denoise?model=%ed%a0%80"), {}, DIGIT, (404, "model-not-found")),
        (("POST", "/denoise?version=2"), {}, DIGIT, (404, "version-not-found")),
        (("GET", "/models/nobody"), {}, b"", (404, "model-not-found")),
        (("GET", "/problems/nothing"), {}, b"", (404, "route-not-found")),
        (("GET", "/docs/../secrets"), {}, b"", (404, "route-not-found")),
        (("GET", "/denoise"), {}, b"", (405, "method-not-allowed")),
        (("POST", "/denoise"), {"Accept": "audio/ogg"}, DIGIT, (406, "not-acceptable")),
        (("POST", "/encode"), {"Accept": "image/png"}, DIGIT, (406, "not-acceptable")),
        (("POST", "/denoise"), {"Content-Type": "text/html"}, DIGIT, (415, "unsupported-media-type")),
        (("POST", "/decode"), {"Content-Type": "image/png"}, DIGIT, (415, "unsupported-media-type")),
        (("POST", "/denoise"), {}, b"GIF88a nonsense", (415, "unsupported-media-type")),
        (("POST", "/denoise"), {"Content-Encoding": "gzip"}, DIGIT, (415, "unsupported-encoding")),
        (("POST", "/denoise"), FORM, NAMELESS, (422, "invalid-parameter")),
        (("POST", "/denoise?version=abc"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/denoise?version=0"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/denoise?version=" + "9" * 5000), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/denoise?modle=toy"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/denoise?%ed%a0%80=1"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/anomaly?max_fpr=nan"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/anomaly?max_fpr=1e999"), {}, DIGIT, (422, "invalid-parameter")),
        (("POST", "/denoise"), {}, DIGIT[:40], (422, "broken-image")),
        (("POST", "/denoise"), {}, to_npy(np.full((4, 4), 2, np.float32)), (422, "invalid-array")),
        (("POST", "/decode"), {}, b'{"latent":[1]}', (422, "invalid-latent")),
    ],
)
def test_every_error_is_a_problem_document(
    client: TestClient, request_line: tuple[str, str], headers: dict[str, str], body: bytes, error: tuple[int, str]
) -> None:
    status, code = error

    response = client.request(*request_line, content=body, headers=headers)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{code}"
    assert len(problem["detail"]) < 700
    assert client.get(problem["type"]).text.startswith(PROBLEMS[code].title)


def test_a_wrong_method_names_the_right_one(client: TestClient) -> None:
    assert client.get("/denoise").headers["allow"] == "POST"


def test_a_declared_length_over_the_limit_is_refused_without_reading(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_body_bytes=1024)

    response = client.post("/denoise", content=bytes(1025))

    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
    assert "connection" not in response.headers  # the rest is thrown away, so that the client hears this


def test_a_body_without_length_is_counted_while_it_arrives(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_body_bytes=1024)

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(100)

    assert client.post("/denoise", content=chunks()).json()["code"] == "body-too-large"


def test_a_body_in_pieces_is_put_together(client: TestClient) -> None:
    response = client.post("/denoise", content=iter([DIGIT[:10], DIGIT[10:50], b"", DIGIT[50:]]))

    assert response.status_code == 200


def test_a_form_with_another_field_names_the_right_one(client: TestClient) -> None:
    response = client.post("/denoise", files={"image": ("a.png", DIGIT)})

    assert response.status_code == 422
    assert "'image'; images go into 'file'" in response.json()["detail"]


def test_a_form_that_was_cut_off_is_refused(client: TestClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + DIGIT + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    assert client.post("/denoise", content=body, headers=headers).status_code == 200
    assert client.post("/denoise", content=body[:-8], headers=headers).json()["code"] == "malformed-body"


def test_more_files_than_allowed_are_refused(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client(max_images=3)

    assert client.post("/encode", files=[("file", ("a", DIGIT))] * 3).status_code == 200
    assert client.post("/encode", files=[("file", ("a", DIGIT))] * 4).json()["code"] == "too-many-images"


def test_a_task_that_a_model_lacks_names_those_it_has(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, tasks=["denoise"])
    client = make_client()

    named = client.post("/encode?model=toy", content=DIGIT)
    unnamed = client.post("/encode", content=DIGIT)

    assert named.json()["detail"] == "model 'toy' cannot encode; it offers denoise; no live model can encode"
    assert named.json()["code"] == unnamed.json()["code"] == "task-not-offered"


def test_nothing_live_is_503_with_a_time_to_retry(make_client: MakeClient) -> None:
    client = make_client()

    for response in (client.post("/denoise", content=DIGIT), client.get("/health/ready")):
        assert (response.status_code, response.json()["code"]) == (503, "not-ready")
        assert response.headers["retry-after"]
    assert client.get("/health/live").status_code == 200


def test_a_result_that_is_not_finite_is_never_given_out(models_dir: Path, make_client: MakeClient) -> None:
    # 1 / x is infinite for black pixels; the golden sample of the toy has none.
    shape: list[Axis] = ["n", 1, 4, 4]
    graph = make_graph([helper.make_node("Reciprocal", ["x"], ["x_hat"])], {"x": shape}, {"x_hat": shape})
    publish_toy(models_dir, graphs={"denoise": graph}, tasks=["denoise"])
    client = make_client()

    good = client.post("/denoise", content=DIGIT)
    bad = client.post("/denoise", content=png(np.zeros((4, 4), np.uint8)))

    assert good.status_code == 200
    assert (bad.status_code, bad.json()["code"]) == (422, "non-finite-result")


def test_an_unforeseen_error_is_a_500_that_says_nothing_but_its_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Denoise) -> None:
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(Denoise, "prepare", fail)
    response = client.post("/denoise", content=DIGIT)
    monkeypatch.undo()

    assert (response.status_code, response.json()["code"]) == (500, "internal-error")
    assert "secret" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-request-id"] in caplog.text
    assert client.post("/denoise", content=DIGIT).status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "a/x"),
        ("*/*", "a/x"),
        ("", "a/x"),
        ("b/y", "b/y"),
        ("B/Y;q=0.5, a/x;q=0.4", "b/y"),
        ("b/*", "b/y"),
        ("a/x;q=0, */*;q=0.1", "b/y"),
        ("text/html, */*;q=0.8", "a/x"),
        ("a/x;q=broken, b/y;q=0.1", "b/y"),
        ("a/x;q=nan, b/y;q=0.1", "b/y"),
    ],
)
def test_accept_is_read_as_the_standard_says(accept: str | None, expected: str) -> None:
    assert negotiate(accept, ["a/x", "b/y"]) == expected
