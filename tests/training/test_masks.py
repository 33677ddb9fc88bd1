"""Masks mark the same pixels whichever tool wrote them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.anomaly.masks import find_mask, read_mask, read_masks
from training.config import DataConfig
from training.errors import DataError

MASK = np.zeros((32, 32), np.uint8)
MASK[8:20, 4:12] = 1
AS_IT_IS = DataConfig(channels=3, height=32, width=32, resize="exact")


def palette(mask: NDArray[np.uint8]) -> Image.Image:
    image = Image.new("P", mask.shape[::-1])
    image.putdata(mask.ravel().tolist())
    image.putpalette([0, 0, 0, 0, 0, 0] + [0] * 762)  # index 1 is as black as index 0
    return image


def red_on_transparent(mask: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.stack([mask * 255, mask * 0, mask * 0, mask * 255], 2))


def soft(mask: NDArray[np.uint8]) -> Image.Image:
    ringing = np.random.default_rng(0).integers(0, 40, mask.shape).astype(np.uint8)
    return Image.fromarray(np.where(mask, 255 - ringing, ringing))


WRITTEN: dict[str, Callable[[NDArray[np.uint8]], Image.Image]] = {
    "white": lambda mask: Image.fromarray(mask * 255),
    "one": Image.fromarray,
    "class number": lambda mask: Image.fromarray(mask * 3),
    "one bit": lambda mask: Image.fromarray(mask * 255).convert("1"),
    "16 bits": lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
    "16 bits, one": lambda mask: Image.fromarray(mask.astype(np.uint16)),
    "colour": lambda mask: Image.fromarray(np.stack([mask * 0, mask * 128, mask * 0], 2)),
    "opaque colour": lambda mask: Image.fromarray(np.stack([mask * 9, mask * 0, mask * 0, mask * 0 + 255], 2)),
    "palette index": palette,
    "alpha": red_on_transparent,
    "soft": soft,
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_mask_marks_the_same_pixels_however_it_is_written(tmp_path: Path, written: str) -> None:
    WRITTEN[written](MASK).save(tmp_path / "mask.png")

    assert np.array_equal(read_mask(tmp_path / "mask.png", AS_IT_IS), MASK == 1)


def test_a_floating_point_mask_marks_what_is_not_zero(tmp_path: Path) -> None:
    Image.fromarray(MASK.astype(np.float32)).save(tmp_path / "mask.tif")

    assert np.array_equal(read_mask(tmp_path / "mask.tif", AS_IT_IS), MASK == 1)


def test_a_defect_smaller_than_a_pixel_of_the_model_stays_marked(tmp_path: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:102, 100:102] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")

    found = read_mask(tmp_path / "mask.png", AS_IT_IS)

    assert 1 <= found.sum() <= 4
    assert found[12, 12]


@pytest.mark.parametrize(("value", "said"), [(0, "marks no pixel"), (255, "marks 100% of the picture")])
def test_a_mask_that_says_nothing_is_an_error_that_names_the_file(tmp_path: Path, value: int, said: str) -> None:
    Image.new("L", (32, 32), value).save(tmp_path / "empty.png")

    with pytest.raises(DataError, match=rf"empty\.png {said}"):
        read_masks([tmp_path / "empty.png"], AS_IT_IS)


def test_a_broken_mask_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        read_masks([tmp_path / "broken.png"], AS_IT_IS)


def test_a_mask_has_the_name_of_its_image(tmp_path: Path) -> None:
    for name in ("a.png", "b_mask.bmp"):
        (tmp_path / name).touch()

    assert find_mask(Path("a.jpg"), tmp_path) == tmp_path / "a.png"
    assert find_mask(Path("b.jpg"), tmp_path) == tmp_path / "b_mask.bmp"
    with pytest.raises(DataError, match=r"no mask for c\.jpg"):
        find_mask(Path("c.jpg"), tmp_path)
