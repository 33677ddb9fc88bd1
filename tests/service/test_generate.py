"""Images out of nothing but a seed, with answers computed on paper."""

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from service.tasks.generate import draw_noise
from tests.service.conftest import MakeClient
from tests.service.files import Array, from_npy, pixels_of
from tests.service.toymodels import LATENT_DIM, publish_generator, publish_toy

LATENT = {"dim": LATENT_DIM, "mean": (0.0,) * LATENT_DIM, "std": (1.0,) * LATENT_DIM}
NPY = {"Accept": "application/x-npy"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`prior` knows the labels dark (1/4) and light (3/4); `plain` draws without labels."""
    directory = tmp_path_factory.mktemp("models")
    publish_generator(directory, manifest_changes={"default_for": ("generate",)})
    publish_generator(directory, name="plain", labels=())
    publish_toy(directory, tasks=["denoise"])
    settings = Settings(models_dir=directory, watch_interval_s=3600, device="cpu", max_images=64)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def drawn(client: TestClient, **body: float) -> Array:
    response = client.post("/generate?model=plain", json=body, headers=NPY)
    assert response.status_code == 200, response.text
    return from_npy(response.content)


def quadrants(x: Array) -> Array:
    """(N, 1, 4, 4) -> (N, 4)."""
    return np.asarray(x)[:, 0, ::2, ::2].reshape(len(x), 4)


def test_an_image_is_what_the_graph_makes_of_the_seeds_noise(client: TestClient) -> None:
    x_hat = drawn(client, count=3, seed=5)

    assert x_hat.shape == (3, 1, 4, 4)
    np.testing.assert_array_equal(quadrants(x_hat), np.float32(0.5) + draw_noise(3, LATENT_DIM, seed=5) / 16)


def test_the_noise_is_standard_normal() -> None:
    e = draw_noise(20_000, 4, seed=1)

    assert abs(e.mean()) < 0.015  # 4 standard errors of 80,000 numbers
    assert abs(e.std() - 1) < 0.01
    assert abs(np.corrcoef(e.T) - np.eye(4)).max() < 0.03


def test_no_body_is_one_image(client: TestClient) -> None:
    response = client.post("/generate")

    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "prior/1"
    assert pixels_of(response.content).shape == (4, 4)


def test_the_seed_that_was_drawn_draws_the_same_bytes_again(client: TestClient) -> None:
    first, other = client.post("/generate", json={}), client.post("/generate", json={})

    again = client.post("/generate", json={"seed": int(first.headers["x-seed"])})

    assert first.headers["x-seed"] != other.headers["x-seed"]
    assert (again.content, again.headers["x-seed"]) == (first.content, first.headers["x-seed"])


def test_an_image_does_not_depend_on_how_many_follow(client: TestClient) -> None:
    np.testing.assert_array_equal(drawn(client, count=10, seed=3)[:3], drawn(client, count=3, seed=3))
    np.testing.assert_array_equal(drawn(client, count=1, seed=3)[None], drawn(client, count=10, seed=3)[:1])


def test_an_image_does_not_depend_on_what_else_is_asked_for(client: TestClient) -> None:
    def ask(i: int) -> bytes:
        return client.post("/generate", json={"count": 1 + i % 7, "seed": i % 5}, headers=NPY).content

    alone = {i: ask(i) for i in range(35)}

    with ThreadPoolExecutor(16) as threads:
        together = dict(zip(range(35), threads.map(ask, range(35)), strict=True))

    assert together == alone


def test_temperature_scales_the_noise(client: TestClient) -> None:
    at_one, at_half = drawn(client, count=4, seed=9), drawn(client, count=4, seed=9, temperature=0.5)

    np.testing.assert_allclose(at_half - 0.5, (at_one - 0.5) / 2, atol=1e-7)  # float32
    assert (drawn(client, count=2, temperature=0) == 0.5).all()


def test_a_label_says_what_to_draw(client: TestClient) -> None:
    for label, level in (("dark", 64), ("light", 191)):
        response = client.post("/generate", json={"label": label, "temperature": 0})
        assert (pixels_of(response.content) == level).all()


def test_labels_come_as_often_as_in_training_and_a_zip_names_them(client: TestClient) -> None:
    response = client.post("/generate", json={"count": 64, "seed": 0, "temperature": 0})

    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        rows = json.loads(archive.read("results.json"))
        for row in rows:
            level = {"dark": 64, "light": 191}[row["label"]]
            assert (pixels_of(archive.read(row["file"])) == level).all()
            assert row["seed"] == 0
    light = sum(row["label"] == "light" for row in rows)
    assert 34 <= light <= 62  # 48 expected of 64, within 4 standard deviations


def test_a_label_does_not_change_the_noise(client: TestClient) -> None:
    mixed = client.post("/generate", json={"count": 8, "seed": 4}, headers=NPY)
    dark = client.post("/generate", json={"count": 8, "seed": 4, "label": "dark"}, headers=NPY)

    difference = quadrants(from_npy(mixed.content)) - quadrants(from_npy(dark.content))
    assert set(np.unique(difference.round(6))) == {0.0, 0.5}


def test_a_sheet_shows_all_of_them_in_one_picture(client: TestClient) -> None:
    body = {"count": 5, "seed": 2}
    sheet = pixels_of(client.post("/generate?model=plain&view=sheet", json=body).content)

    assert sheet.shape == (2 * 4 + 2, 3 * 4 + 2 * 2)  # two rows of three, with two pixels between
    x_hat = np.rint(drawn(client, **body)[:, 0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(sheet[:4, 6:10], x_hat[1])
    np.testing.assert_array_equal(sheet[6:, :4], x_hat[3])
    assert (sheet[6:, 12:] == 255).all()


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "image/webp", "image/tiff", "application/x-npy"])
def test_accept_chooses_the_form(client: TestClient, kind: str) -> None:
    one = client.post("/generate", json={}, headers={"Accept": kind})
    several = client.post("/generate", json={"count": 2}, headers={"Accept": kind})

    assert one.headers["content-type"] == kind
    assert several.headers["content-type"] == (kind if kind == "application/x-npy" else "application/zip")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (
            b'{"label": "7"}',
            422,
            "invalid-parameter",
            "label is '7', which model 'prior' cannot generate; it knows dark, l",
        ),
        (b'{"count": 0}', 422, "invalid-parameter", "count: Input should be greater"),
        (b'{"count": true}', 422, "invalid-parameter", "count: "),
        (b'{"seed": -1}', 422, "invalid-parameter", "seed: "),
        (b'{"temperature": 1e9}', 422, "invalid-parameter", "temperature: "),
        (b'{"temperature": NaN}', 400, "malformed-body", "not JSON"),
        (b'{"sed": 1}', 422, "invalid-parameter", "count, seed, temperature, label"),
        (b"[]", 422, "invalid-parameter", "the body: "),
        (b"{", 400, "malformed-body", "not JSON"),
        (b'{"count": 65}', 413, "too-many-images", "the limit is 64"),
        (b'{"count": 1000000000000}', 413, "too-many-images", "the limit is 64"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_value_and_the_cure(
    client: TestClient, body: bytes, status: int, code: str, words: str
) -> None:
    problem = client.post("/generate", content=body, headers={"Content-Type": "application/json"}).json()

    assert (problem["status"], problem["code"]) == (status, code)
    assert words in problem["detail"]


def test_a_label_for_a_model_without_labels_is_refused(client: TestClient) -> None:
    problem = client.post("/generate?model=plain", json={"label": "7"}).json()

    assert "draws without labels" in problem["detail"]


def test_a_model_that_cannot_generate_names_those_that_can(client: TestClient) -> None:
    problem = client.post("/generate?model=toy").json()

    assert problem["code"] == "task-not-offered"
    assert problem["detail"] == "model 'toy' cannot generate; it offers denoise; plain, prior can generate"


def test_a_model_that_generates_goes_live_and_says_what_it_draws(models_dir: Path, make_client: MakeClient) -> None:
    publish_generator(models_dir)

    manifest = make_client().get("/models/prior").json()

    assert manifest["generate"] == {"labels": ["dark", "light"], "shares": [0.25, 0.75]}
    assert [tensor["name"] for tensor in manifest["tasks"]["generate"]["inputs"]] == ["e", "label"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generate": None}, "and the reverse"),
        ({"generate": {"labels": (), "shares": ()}}, "the input label of generate"),
        ({"generate": {"labels": ("a", "b"), "shares": (1.0,)}}, "one share"),
        ({"generate": {"labels": ("a", "a"), "shares": (0.5, 0.5)}}, "once"),
        ({"generate": {"labels": ("a", "b"), "shares": (0.5, 0.4)}}, "sum to 0.9"),
        ({"generate": {"labels": ("a", "b"), "shares": (1.0, 0.0)}}, "greater than 0"),
        ({"latent": LATENT | {"directions": ((1.0, 0.0),), "spread": (1.0,)}}, "rows of 4 numbers"),
        ({"latent": LATENT | {"directions": ((1.0, 0.0, 0.0, 0.0),)}}, "each with one spread"),
        ({"examples": {"labels": ("a",), "latents": ((0.0, 0.0),)}}, "do not have the size"),
        ({"examples": {"labels": ("a", "b"), "latents": ((0.0,) * 4,)}}, "as many of each"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(models_dir: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        publish_generator(models_dir, manifest_changes=changes)
