"""How noisy an image is: what a tile says, and the level that a model makes of it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.contract.noise import features, root_levels, white_level
from service.contract.sections import LevelEstimator, Noise
from service.images import tiles as tiling
from service.images.image import Image
from service.images.noise import estimate_sigma, level_of, tiles
from tests.service.conftest import MakeClient
from tests.service.files import pixels_of, png
from tests.service.toymodels import publish_blur

RNG = np.random.default_rng(3)
GREY, COLOUR = 23, 59  # features of a tile with one plane and with three


def always(level: float, count: int) -> LevelEstimator:
    """An estimator that looks at nothing."""
    return LevelEstimator(
        features="haar-1", center=(0.0,) * count, spread=(1.0,) * count, hidden=((0.0,) * count,),
        hidden_bias=(0.0,), out=(0.0,), out_bias=level**0.5,
    )  # fmt: skip


def noise(channels: int, sigma: float, *, side: int = 128) -> NDArray[np.float32]:
    return (0.5 + RNG.normal(0, sigma / 255, (channels, side, side))).astype(np.float32)


@pytest.mark.parametrize(("channels", "count"), [(1, GREY), (3, COLOUR)])
@pytest.mark.parametrize("size", [(16, 16), (16, 130), (41, 23), (128, 128)])
def test_every_tile_has_as_many_features(channels: int, count: int, size: tuple[int, int]) -> None:
    for x in (np.zeros((channels, *size), np.float32), RNG.random((channels, *size)).astype(np.float32)):
        row = features(x)

        assert row.shape == (count,)
        assert np.isfinite(row).all()


def test_the_first_feature_is_the_logarithm_of_the_smaller_half_of_fine_differences() -> None:
    sigma = 20.0

    row = features(noise(1, sigma))

    # The smaller half of |N(0, s)| has the mean 0.3237 s: integral of 2 x p(x) up to 0.6745, twice.
    assert np.exp(row[0]) * 255 - 0.05 == pytest.approx(0.3237 * sigma, rel=0.03)  # 3 sigma of 8,192 differences


def test_white_noise_halves_from_scale_to_scale_and_coarse_noise_does_not() -> None:
    white = noise(1, 20)
    coarse = np.repeat(np.repeat(noise(1, 20, side=64), 2, axis=1), 2, axis=2)

    finest, next_finest = 0, 6  # the second scale begins after two times three numbers
    assert features(white)[finest] - features(white)[next_finest] == pytest.approx(np.log(2), abs=0.1)
    assert features(coarse)[finest] < features(coarse)[next_finest]


def test_blocks_show_in_the_features_wherever_they_begin() -> None:
    blocks = np.repeat(np.repeat(RNG.random((1, 17, 17)), 8, axis=1), 8, axis=2).astype(np.float32)
    most, at_edge = 14, 15  # after the fourteen numbers of scales: rows, at any place and where files begin

    aligned, cropped, none = (
        features(x)[[most, at_edge]] for x in (blocks[:, :128, :128], blocks[:, :128, 3:131], noise(1, 20))
    )

    assert aligned[0] == aligned[1] > 1
    assert cropped[0] > 1
    assert cropped[1] < 0
    assert (np.abs(none) < 0.3).all()


def test_the_estimator_is_computed_as_the_contract_says() -> None:
    row = RNG.random(3)
    estimator = LevelEstimator(
        features="haar-1", center=(0.5, 0.5, 100.0), spread=(1.0, 2.0, 0.1), hidden=((1.0, -1.0, 0.5), (0.0, 2.0, 1.0)),
        hidden_bias=(3.0, -9.0), out=(2.0, 5.0), out_bias=0.25,
    )  # fmt: skip

    f = [(row[0] - 0.5), (row[1] - 0.5) / 2, -4.0]  # the third is cut at four spreads
    expected = 0.25 + 2.0 * (3.0 + f[0] - f[1] - 2.0)  # the second is below zero
    assert root_levels(row[None], estimator).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    "change",
    [{"spread": (1.0,)}, {"spread": (0.0,) * 3}, {"hidden": ((1.0, 2.0),)}, {"hidden_bias": ()}, {"out": (1.0, 2.0)}],
)
def test_an_estimator_whose_numbers_do_not_fit_is_refused(change: dict[str, object]) -> None:
    right = always(4.0, 3).model_dump()

    with pytest.raises(ValidationError):
        LevelEstimator.model_validate({**right, **change})


@pytest.mark.parametrize(("level", "expected"), [(9.0, 9.0), (2500.0, 50.0), (0.0, 2.0)])
def test_the_level_stays_in_the_range_of_the_model(level: float, expected: float) -> None:
    told = Noise(min_sigma=2.0, max_sigma=50.0, estimator=always(level, GREY))

    assert level_of(Image(noise(1, 20)[None]), told, channels=1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shape", "channels"), [((3, 64, 64), 1), ((3, 64, 64), 3), ((1, 500, 90), 1)], ids=["planes", "colour", "tiles"]
)
def test_the_estimator_of_the_model_decides(shape: tuple[int, ...], channels: int) -> None:
    told = Noise(min_sigma=0.0, max_sigma=50.0, estimator=always(7.0, GREY if channels == 1 else COLOUR))

    assert level_of(Image(RNG.random((1, *shape)).astype(np.float32)), told, channels=channels) == pytest.approx(7.0)


@pytest.mark.parametrize(("shape", "channels"), [((1, 64, 64), 3), ((1, 15, 200), 1), ((1, 1, 1), 1)])
def test_white_noise_is_measured_where_the_image_says_too_little(shape: tuple[int, ...], channels: int) -> None:
    image = Image((0.5 + RNG.normal(0, 0.05, (1, *shape))).astype(np.float32))
    told = Noise(min_sigma=0.0, max_sigma=50.0, estimator=always(1.0, GREY if channels == 1 else COLOUR))

    assert level_of(image, told, channels=channels) == min(estimate_sigma(image), 50.0)


def test_tiles_cover_the_corners_and_begin_where_blocks_of_jpeg_do() -> None:
    height, width = 1000, 330
    where = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, width) / (height * width)

    corners = [divmod(round(float(x[0, 0, 0]) * height * width), width) for x in tiles(Image(where))]

    assert len(corners) == 4 * 2
    assert corners[0] == (0, 0)
    assert corners[-1] == ((height - 128) // 16 * 16, (width - 128) // 16 * 16)
    assert all(top % 16 == left % 16 == 0 for top, left in corners)


def test_white_level_is_the_standard_deviation() -> None:
    assert white_level(noise(3, 12)) == pytest.approx(12, rel=0.05)


def test_the_answer_says_the_level_that_the_estimator_chose(models_dir: Path, make_client: MakeClient) -> None:
    publish_blur(models_dir, name="grey", default_for=["denoise"], estimator=always(25.5, GREY))
    client: TestClient = make_client()

    left_out, told = (
        client.post(f"/denoise{q}", content=png(np.full((32, 32), 200, np.uint8))) for q in ("", "?sigma=5")
    )

    assert left_out.headers["x-sigma"] == "25.5"
    assert told.headers["x-sigma"] == "5"


def taken_away(picture: NDArray[np.uint8]) -> float:
    """The RMS of what the toy changes when it is told -51: it answers 1.1 times the mean of 5x5."""
    height, width = picture.shape  # multiples of 4, so that nothing is filled up
    padded = np.pad(picture.astype(np.float64), 2)
    mean = sum(padded[i : i + height, j : j + width] for i in range(5) for j in range(5)) / 25
    return float(np.sqrt(np.square(1.1 * mean - picture).mean()))


def test_a_blind_model_is_told_that_nobody_knows_and_the_answer_says_what_it_took_away(
    models_dir: Path, make_client: MakeClient
) -> None:
    publish_blur(models_dir, name="alone", default_for=["denoise"], untold=-51.0)
    client: TestClient = make_client()
    flat = np.full((40, 52), 100, np.uint8)

    left_out, half, told = (
        client.post(f"/denoise{q}", content=png(flat)) for q in ("", "?strength=0.5", "?sigma=25.5")
    )

    assert pixels_of(left_out.content)[20, 26] == 110  # 100 * (1 + 51 / 510)
    assert pixels_of(half.content)[20, 26] == 105
    rms = taken_away(flat)
    assert float(left_out.headers["x-sigma"]) == pytest.approx(rms, rel=1e-3)
    assert half.headers["x-sigma"] == left_out.headers["x-sigma"]  # what it found, however much of it is taken
    assert told.headers["x-sigma"] == "25.5"


def test_what_a_blind_model_took_away_is_the_same_in_tiles(
    models_dir: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_blur(models_dir, name="alone", default_for=["denoise"], untold=-51.0)
    client: TestClient = make_client()
    picture = RNG.integers(0, 256, (72, 88), np.uint8)
    monkeypatch.setattr(tiling, "TILE", 16)
    monkeypatch.setattr(tiling, "UNTILED_PIXELS", 0)

    said = float(client.post("/denoise", content=png(picture)).headers["x-sigma"])

    assert said == pytest.approx(taken_away(picture), rel=1e-3)


def test_a_blind_model_of_colour_gets_a_level_for_grey_images() -> None:
    told = Noise(min_sigma=0.0, max_sigma=50.0, untold=-50.0)

    assert level_of(Image(noise(3, 20)[None]), told, channels=3) == -50.0
    assert level_of(Image(noise(1, 20)[None]), told, channels=3) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    "change", [{"untold": 0.0}, {"untold": -300.0}, {"untold": -50.0, "estimator": always(4.0, 3).model_dump()}]
)
def test_a_blind_model_has_one_way_without_a_level_and_a_number_that_is_no_level(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Noise.model_validate({"min_sigma": 0.0, "max_sigma": 50.0, **change})
