"""Photographs of any size: how they are read, and which are kept back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.pictures import fit, published
from training.config import RecipeError
from training.errors import DataError
from training.problems.pictures import curve
from training.recipe import load_recipe
from training.restoration.photos import read_pairs, read_photos


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_read_as_grey_and_not_as_white(tmp_path: Path, suffix: str, channels: int) -> None:
    for i in range(4):
        grey = np.full((20, 20), 127 * 257, np.uint16)
        grey[0, i] = 0
        Image.fromarray(grey).save(tmp_path / f"{i}.{suffix}")

    found = read_photos(tmp_path, channels, validation=1, least_side=8, progress=False)

    for pair in (*found.train, *found.validation):
        assert pair.clean.shape == (channels, 20, 20)
        torch.testing.assert_close(pair.clean[:, 5:], torch.full((channels, 15, 20), 127 / 255))


def test_what_has_no_range_and_what_is_no_image_format_of_ours_is_skipped(tmp_path: Path, photos: Path) -> None:
    Image.fromarray(np.full((20, 20), 127.5, np.float32)).save(photos / "float.tiff")
    (photos / "drawing.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"
    )

    found = read_photos(photos, 3, validation=2, least_side=8, progress=False)

    reason_by_name = {skipped.path.name: skipped.reason for skipped in found.skipped}
    assert "pixels are in [0, 1]" in reason_by_name["float.tiff"]
    assert "which is not a PNG" in reason_by_name["drawing.png"]  # Ghostscript never sees it


def test_a_picture_under_two_names_is_in_one_part_once(photos: Path) -> None:
    Image.open(photos / "0.png").save(photos / "9.png")

    found = read_photos(photos, 3, validation=2, least_side=8, progress=False)

    pictures = [pair.clean for pair in (*found.train, *found.validation)]
    assert len(pictures) == 6
    assert not any(torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    assert any("9.png: the same pixels as 0.png" in str(skipped) for skipped in found.skipped)


def test_the_same_clean_picture_may_stand_in_pairs_that_differ(tmp_path: Path, photos: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    for i in range(4):
        Image.open(photos / "0.png").save(photos / f"{i}.png")
        Image.fromarray(np.asarray(Image.open(photos / "0.png")) // (i // 2 + 1)).save(noisy / f"{i}.png")

    with pytest.raises(DataError, match="2 usable pictures"):  # of four, every second is the same pair
        read_pairs(noisy, photos, 3, validation=1, least_side=8, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["denoise", "enhance", "blind"])
def test_an_expression_keeps_back_what_it_names(tmp_path: Path, photos: Path, kind: str) -> None:
    assert fit(tmp_path, kind, "--data", str(photos), "data.validation=^[024]", "--name", "mine") == 0

    split = published(tmp_path, "mine")[0].provenance.data.split
    assert (split.train, split.validation, split.test) == (3, 3, 0)


@pytest.mark.parametrize("test", [1, "^[05]"])
def test_a_third_part_measures_and_is_neither_trained_on_nor_watched(photos: Path, test: int | str) -> None:
    found = read_photos(photos, 3, validation=2, test=test, least_side=8, progress=False)

    parts = [{pair.name for pair in part} for part in (found.train, found.validation, found.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 6
    assert all(parts)
    assert found.measured == (found.test, "test")
    assert (found.split.validation, found.split.test) == (len(found.validation), len(found.test))
    if isinstance(test, str):
        assert parts[2] == {"0.png", "5.png"}


def test_without_a_third_part_nothing_moves(photos: Path) -> None:
    found = read_photos(photos, 3, validation=2, least_side=8, progress=False)

    assert [pair.name for pair in found.validation] == ["1.png", "4.png"]
    assert found.measured == (found.validation, "validation")


@pytest.mark.slow
def test_a_fit_with_a_third_part_says_that_its_figures_are_of_test_pictures(tmp_path: Path, photos: Path) -> None:
    assert fit(tmp_path, "enhance", "--data", str(photos), "data.test=1", "--name", "mine") == 0

    manifest, directory = published(tmp_path, "mine")
    split = manifest.provenance.data.split
    assert (split.train, split.validation, split.test) == (4, 1, 1)
    assert manifest.metrics[0].data.startswith("1 test pictures of photos")
    assert "The figures are of the validation images" not in (directory / "README.md").read_text("utf-8")


def test_photo_compression_takes_an_expression_too() -> None:
    recipe = load_recipe("photo-compressed", ("data.validation=^[024]",))

    assert recipe.data.model_dump()["validation"] == "^[024]"


@pytest.mark.parametrize("kind", ["denoise", "photo-compressed"])
@pytest.mark.parametrize("validation", ["0", "-1", "("])
def test_a_recipe_that_keeps_nothing_back_is_refused(kind: str, validation: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.validation|validation"):
        load_recipe(kind, (f"data.validation={validation}",))


def test_an_expression_that_names_nothing_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="matches 0 of 6 names"):
        read_photos(photos, 3, validation="nothing", least_side=8, progress=False)


def test_the_curve_has_every_look_at_the_time_of_its_step() -> None:
    history = [
        {"epoch": 1, "step": 10, "validation_loss": 0.1},
        {"epoch": 2, "step": 20, "validation_loss": 0.01},
        {"epoch": 3, "step": 24, "validation_loss": 0.001},
    ]

    minutes, decibels = zip(*curve(history, cpu_s=24 * 60.0), strict=True)

    assert minutes == (10, 20, 24)
    assert decibels == pytest.approx((10, 20, 30))
