"""Images of any size reach a model of one size, and results come back in the size that was sent."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from starlette.testclient import TestClient

from service.deadline import Deadline, set_deadline
from service.images import resize
from service.images.resize import resample
from tests.service.conftest import MakeClient
from tests.service.files import Array, from_npy, pixels_of, png, to_npy
from tests.service.toymodels import publish_toy

RNG = np.random.default_rng(7)


def ask(client: TestClient, size: tuple[int, int], endpoint: str = "/denoise") -> tuple[Array, str | None, int]:
    response = client.post(endpoint, content=png(np.full(size, 100, np.uint8)))
    return (
        (pixels_of(response.content) if response.is_success else np.empty(0)),
        response.headers.get("x-resize"),
        response.status_code,
    )


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((8, 8), "fit 8x8 -> 4x4"),
        ((2, 4), "fit 4x2 -> 4x2 in 4x4"),
        ((40, 10), "fit 10x40 -> 1x4 in 4x4"),
        ((300, 1), "fit 1x300 -> 1x4 in 4x4"),
    ],
)
def test_fit_keeps_proportions_and_gives_back_the_sent_size(
    client: TestClient, size: tuple[int, int], said: str
) -> None:
    result, resize, _ = ask(client, size)

    assert resize == said
    assert result.shape == size
    assert (result == 50).all()  # a flat image stays flat, padding included


def test_json_answers_say_what_was_done_to_the_size(client: TestClient) -> None:
    response = client.post("/encode", content=png(np.full((8, 8), 100, np.uint8)))

    assert response.json()["resize"] == response.headers["x-resize"] == "fit 8x8 -> 4x4"


def test_exact_stretches(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, resize="exact")

    result, resize, _ = ask(make_client(), (8, 2))

    assert resize == "exact 2x8 -> 4x4"
    assert result.shape == (8, 2)


def test_reject_refuses_another_size(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, resize="reject")
    client = make_client()

    assert ask(client, (4, 4))[2] == 200
    response = client.post("/denoise", content=png(np.zeros((5, 4), np.uint8)))
    assert response.status_code == 422
    assert response.json()["code"] == "size-mismatch"
    assert "4x5" in response.json()["detail"]


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (1, 9), (7, 3)])
def test_a_model_of_any_size_gets_multiples_and_gives_back_exact_pixels(
    models_dir: Path, make_client: MakeClient, size: tuple[int, int]
) -> None:
    publish_toy(models_dir, side=None, multiple_of=8)
    values = RNG.integers(0, 128, size, np.uint8) * 2

    response = make_client().post("/denoise", content=png(values))

    np.testing.assert_array_equal(pixels_of(response.content), values // 2)
    assert "x-resize" not in response.headers


def test_a_sliver_may_not_grow_past_the_limit_by_padding(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, side=None, multiple_of=64)

    response = make_client(max_pixels=10_000).post("/denoise", content=png(np.zeros((1, 1000), np.uint8)))

    assert response.status_code == 413


def test_a_colour_model_keeps_colours(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, channels=3)
    values = RNG.integers(0, 128, (4, 4, 3), np.uint8) * 2

    response = make_client().post("/denoise", content=png(values))

    np.testing.assert_array_equal(pixels_of(response.content), values // 2)


def test_a_colour_array_reaches_a_colour_model(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir, channels=3)
    x = RNG.random((2, 3, 4, 4), np.float32)

    response = make_client().post("/denoise", content=to_npy(x))

    np.testing.assert_array_equal(from_npy(response.content), x * np.float32(0.5))


@pytest.mark.parametrize("is_smooth", [False, True])
@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((70, 50), (28, 28)),
        ((3000, 1), (28, 1)),
        ((1, 3000), (1, 28)),
        ((7, 9), (90, 70)),
        ((61, 5), (7, 80)),
        ((64, 64), (64, 9)),
    ],
)
def test_resampling_gives_the_numbers_of_pillow(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], new: tuple[int, int], is_smooth: bool
) -> None:
    x = np.random.default_rng(3).random((2, *size), np.float32)
    method = PillowImage.Resampling.BILINEAR if is_smooth else PillowImage.Resampling.LANCZOS
    pillow = [np.asarray(PillowImage.fromarray(plane).resize(new[::-1], method)) for plane in x]

    at_once = resample(x, *new, is_smooth=is_smooth)
    for name in ("_KEPT_SIZE", "_PRODUCT", "_WEIGHTS"):
        monkeypatch.setattr(resize, name, 40)
    in_steps = resample(x, *new, is_smooth=is_smooth)

    for ours in (at_once, in_steps):  # sums of doubles in another order may be rounded to the next float
        np.testing.assert_allclose(ours, pillow, rtol=0, atol=1.2e-7)


def test_a_picture_whose_time_is_over_is_not_converted_after_it_was_decoded(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(models_dir)
    client = make_client()
    seen: list[int] = []

    def place(_: resize.Placement, x: np.ndarray) -> np.ndarray:
        seen.append(x.size)
        return x

    monkeypatch.setattr(resize.Placement, "place", place)
    monkeypatch.setattr("service.http.admission.set_deadline", lambda _: set_deadline(Deadline(-1)))

    late = client.post("/denoise?model=toy", content=png(np.zeros((300, 300), np.uint8)))

    assert (late.status_code, late.json()["code"]) == (504, "deadline-exceeded")
    assert not seen
