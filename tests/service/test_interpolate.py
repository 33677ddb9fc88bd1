"""The way from one image to another, with answers computed on paper."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageSequence
from starlette.testclient import TestClient

from service.api.app import create_app
from service.contract.sections import Latent
from service.errors import InvalidLatent
from service.settings import Settings
from service.tasks.interpolate import linear, spherical
from tests.service.files import Array, from_npy, pixels_of, png, to_npy
from tests.service.toymodels import publish_toy

BLACK, WHITE = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
ENDS = {"latents": [[0, 0, 0, 0], [1, 1, 1, 0]]}
STANDARD = Latent(dim=2, mean=(0, 0), std=(1, 1))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`toy` encodes and decodes, `half` encodes only."""
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory, manifest_changes={"default_for": ("encode", "decode")})
    publish_toy(directory, name="half", tasks=["encode"])
    settings = Settings(models_dir=directory, watch_interval_s=3600, device="cpu", max_images=64)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def between(client: TestClient, *images: Array, query: str = "", **headers: str) -> httpx.Response:
    files = [("file", ("image", png(image))) for image in images]
    response: Any = client.post(f"/interpolate{query}", files=files, headers=headers)
    found: httpx.Response = response
    return found


def test_two_images_give_a_strip_from_one_to_the_other(client: TestClient) -> None:
    response = between(client, BLACK, WHITE, query="?steps=5")

    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "toy/1"
    strip = pixels_of(response.content)
    assert strip.shape == (4, 5 * 4 + 4 * 2)  # two pixels between
    assert [int(strip[0, 6 * i]) for i in range(5)] == [0, 64, 128, 191, 255]
    assert (strip[:, 4:6] == 255).all()


def test_two_latents_give_the_same_as_json_and_as_npy(client: TestClient) -> None:
    document = client.post("/interpolate?steps=3", json=ENDS, headers={"Accept": "application/x-npy"})
    array = client.post(
        "/interpolate?steps=3",
        content=to_npy(np.array(ENDS["latents"], np.float32)),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
    )

    x_hat = from_npy(document.content)
    assert x_hat.shape == (3, 1, 4, 4)
    np.testing.assert_array_equal(x_hat[:, 0, 0, 0], [0, 0.5, 1])
    assert (x_hat[:, 0, 3, 3] == 0).all()
    assert array.content == document.content


def test_frames_come_as_a_zip(client: TestClient) -> None:
    response = between(client, BLACK, WHITE, query="?steps=3&view=frames")

    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["000.png", "001.png", "002.png"]
        assert (pixels_of(archive.read("001.png")) == 128).all()


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [("", "image/gif", "GIF"), ("", "image/webp", "WEBP"), ("&view=animation", "*/*", "WEBP")],
)
def test_an_animation_has_a_frame_per_step_and_runs_for_ever(
    client: TestClient, query: str, accept: str, kind: str
) -> None:
    response = between(client, BLACK, WHITE, query=f"?steps=5{query}", Accept=accept)

    with Image.open(io.BytesIO(response.content)) as picture:
        assert picture.format == kind
        assert picture.info["loop"] == 0
        levels = [frame.convert("L").getpixel((0, 0)) for frame in ImageSequence.Iterator(picture)]
    assert levels == [0, 64, 128, 191, 255]


def test_a_strip_can_be_a_still_webp(client: TestClient) -> None:
    response = between(client, BLACK, WHITE, query="?steps=3&view=strip", Accept="image/webp")

    with Image.open(io.BytesIO(response.content)) as picture:
        assert (picture.format, getattr(picture, "n_frames", 1), picture.size) == ("WEBP", 1, (16, 4))


def test_what_was_done_to_the_sizes_is_said(client: TestClient) -> None:
    response = between(client, np.zeros((8, 8), np.uint8), np.zeros((8, 12), np.uint8))

    assert response.headers["x-resize"] == "fit 8x8 -> 4x4; fit 12x8 -> 4x3 in 4x4"


def test_the_straight_way() -> None:
    z = linear(np.array([0, 2], np.float32), np.array([4, 0], np.float32), np.array([0, 0.25, 1]), STANDARD)

    np.testing.assert_array_equal(z, [[0, 2], [1, 1.5], [4, 0]])


def test_the_arc_turns_evenly_and_keeps_the_distance_from_the_mean() -> None:
    t = np.linspace(0, 1, 4)

    z = spherical(np.array([1, 0], np.float32), np.array([0, 1], np.float32), t, STANDARD)

    np.testing.assert_allclose(z, np.stack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)], axis=1), atol=1e-7)


def test_the_arc_is_around_the_mean_in_units_of_the_deviations() -> None:
    latent = Latent(dim=2, mean=(10, 20), std=(1, 5))

    z = spherical(np.array([11, 20], np.float32), np.array([10, 25], np.float32), np.linspace(0, 1, 3), latent)

    np.testing.assert_allclose(z[1], [10 + np.sqrt(0.5), 20 + 5 * np.sqrt(0.5)], rtol=1e-6)


def test_the_arc_between_parallel_latents_is_straight_and_between_opposite_ones_there_is_none() -> None:
    first = np.array([1, 0], np.float32)

    z = spherical(first, 3 * first, np.linspace(0, 1, 3), STANDARD)

    np.testing.assert_allclose(z, [[1, 0], [2, 0], [3, 0]])
    with pytest.raises(InvalidLatent, match="use linear"):
        spherical(first, -first, np.linspace(0, 1, 3), STANDARD)


def test_the_way_is_chosen_by_the_query(client: TestClient) -> None:
    body = {"latents": [[1, 0, 0, 0], [0, 1, 0, 0]]}

    straight = client.post("/interpolate?steps=3", json=body, headers={"Accept": "application/x-npy"})
    arc = client.post("/interpolate?steps=3&path=spherical", json=body, headers={"Accept": "application/x-npy"})

    assert from_npy(straight.content)[1, 0, 0, 0] == 0.5
    assert from_npy(arc.content)[1, 0, 0, 0] == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("?steps=1", ENDS, 422, "invalid-parameter"),
        ("?steps=65", ENDS, 413, "too-many-images"),
        ("?path=curved", ENDS, 422, "invalid-parameter"),
        ("", {"latents": [[0, 0, 0, 0]]}, 422, "invalid-latent"),
        ("", {"latents": [[0, 0, 0, 0]] * 3}, 422, "invalid-latent"),
        ("", {"latents": [[0, 0], [1, 1]]}, 422, "invalid-latent"),
        ("", {"latents": ENDS["latents"], "model": "other"}, 422, "invalid-latent"),
        ("?path=spherical", {"latents": [[1, 0, 0, 0], [-1, 0, 0, 0]]}, 422, "invalid-latent"),
        ("?model=half", ENDS, 422, "task-not-offered"),
        ("?model=nobody", ENDS, 404, "model-not-found"),
        ("?view=animation", ENDS, 406, "not-acceptable"),
    ],
)
def test_a_way_that_cannot_be_drawn_is_refused(
    client: TestClient, query: str, body: dict[str, Any], status: int, code: str
) -> None:
    accept = "image/png" if "animation" in query else "*/*"

    problem = client.post(f"/interpolate{query}", json=body, headers={"Accept": accept}).json()

    assert (problem["status"], problem["code"]) == (status, code)


def test_one_image_or_three_are_refused_and_so_is_a_model_that_only_encodes(client: TestClient) -> None:
    assert between(client, BLACK).json()["code"] == "malformed-body"
    assert between(client, BLACK, BLACK, BLACK).json()["code"] == "malformed-body"
    assert between(client, BLACK, WHITE, query="?model=half").json()["code"] == "task-not-offered"
    text = client.post("/interpolate", content=b"x", headers={"Content-Type": "text/html"})
    assert text.json()["code"] == "unsupported-media-type"
    several = client.post(
        "/interpolate", files=[("file", ("a", to_npy(np.zeros((2, 1, 4, 4), np.uint8)))), ("file", ("b", png(BLACK)))]
    )
    assert several.json()["code"] == "malformed-body"
    broken = client.post("/interpolate", files=[("file", ("a", b"nonsense")), ("file", ("b", png(BLACK)))])
    assert broken.json()["code"] == "unsupported-media-type"
