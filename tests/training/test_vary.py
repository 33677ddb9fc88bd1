"""What may vary in good parts, and is not shown by the pictures given, is learnt from copies that do vary."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.anomaly.config import AnomalyRecipe
from training.anomaly.parts import read_parts
from training.anomaly.vary import VaryConfig, varied
from training.recipe import load_recipe

DRAWN = 60  # copies that a test looks at: every kind of change is in half of them


def spot() -> np.ndarray:
    """A bright spot of 4x4 pixels right of the middle of 64x64, on grey."""
    image = np.full((1, 64, 64), 100, np.uint8)
    image[0, 30:34, 50:54] = 200
    return image


def copies(config: VaryConfig, image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([varied(image, config, rng) for _ in range(DRAWN)])


def middles(images: np.ndarray) -> np.ndarray:
    """Row and column of the spot, from the middle of the image."""
    bright = np.clip(images[:, 0].astype(float) - 110, 0, None)
    rows, columns = np.mgrid[:64, :64] - 31.5
    weight = bright.sum((1, 2))
    return np.stack([(bright * rows).sum((1, 2)) / weight, (bright * columns).sum((1, 2)) / weight], 1)


def test_a_part_is_turned_around_the_middle_by_up_to_so_many_degrees() -> None:
    where = middles(copies(VaryConfig(turn=30), spot()))

    angles = np.degrees(np.arctan2(where[:, 0], where[:, 1]))
    np.testing.assert_allclose(np.hypot(*where.T), 20, atol=0.5)  # 20 pixels from the middle, before and after
    assert 25 < angles.max() < 31
    assert -31 < angles.min() < -25


def test_a_part_is_moved_by_up_to_a_share_of_the_sides() -> None:
    where = middles(copies(VaryConfig(shift=0.1), spot())) - (0, 20)

    assert np.abs(where).max() < 6.9  # a tenth of 64, and half a pixel of rounding
    assert (np.abs(where).max(0) > 5).all()


def test_light_scales_all_pixels_and_stays_in_range() -> None:
    found = copies(VaryConfig(light=0.5), np.full((3, 4, 4), 150, np.uint8))

    assert found.dtype == np.uint8
    assert 70 <= found.min() <= 90
    assert 210 <= found.max() <= 226
    assert (found.std(axis=(1, 2, 3)) == 0).all()


def test_a_copy_saved_as_jpeg_has_its_marks() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3, 16, 16), np.uint8)

    found = copies(VaryConfig(jpeg=20), noise)

    changed = np.abs(found.astype(int) - noise).mean(axis=(1, 2, 3))
    assert 0.3 < (changed > 0).mean() < 0.7
    assert changed.max() > 10


def test_pixels_of_sixteen_bits_keep_their_depth() -> None:
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)

    found = copies(VaryConfig(light=0.2), image)

    assert found.dtype == np.float32
    assert any(len(np.unique(copy)) == 64 for copy in found[found.max(axis=(1, 2, 3)) < 1])


@pytest.mark.parametrize(("overrides", "expected"), [((), 0), (("vary.turn=5", "vary.copies=2"), 2)])
def test_copies_are_made_where_something_varies(tmp_path: Path, overrides: tuple[str, ...], expected: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / f"{number:02}.png")

    parts = read_parts(tmp_path, load_recipe("anomaly", overrides, of=AnomalyRecipe), progress=False)

    assert parts.copies.shape == (expected, 12, 1, 32, 32)
    assert len(parts.images) == 12
