"""Pictures of several blocks are read and written as those of one, with memory for a block beside the picture."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from service.images.blocks import blocks
from service.images.codec import decode_image, encode_image
from service.images.image import Image

HEIGHT, WIDTH = 23, 37
VALUES = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)


@pytest.fixture(params=[100, 20])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of two rows, and of parts of a row."""
    with monkeypatch.context() as patch:
        patch.setattr("service.images.blocks._BLOCK_PIXELS", request.param)
        yield


def saved(mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture = PillowImage.fromarray(VALUES[..., :3])
    {"LA": PillowImage.fromarray(VALUES[..., :2], "LA"), "RGBA": PillowImage.fromarray(VALUES)}.get(
        mode, picture.quantize(16) if mode == "P" else picture.convert(mode)
    ).save(file, "JPEG" if mode == "CMYK" else "PNG", **options)
    return file.getvalue()


FILES = {
    "one bit": saved("1"),
    "grey": saved("L"),
    "grey and alpha": saved("LA"),
    "colour": saved("RGB"),
    "colour and alpha": saved("RGBA"),
    "a transparent colour": saved("RGB", transparency=(1, 2, 3)),
    "a palette": saved("P"),
    "a transparent palette": saved("P", transparency=3),
    "CMYK": saved("CMYK"),
}
WHOLE = {name: decode_image(data, max_pixels=10_000, max_frames=1) for name, data in FILES.items()}


def alpha_of(image: Image) -> list[list[int]] | None:
    return None if image.alpha is None else image.alpha.tolist()


def test_blocks_cover_every_pixel_once() -> None:
    for height, width in ((1, 1), (1, 3_000_000), (3_000_000, 1), (1500, 1000), (2, 1 << 20)):
        seen = np.zeros((height, width), np.uint8)
        for rows, columns in blocks(height, width):
            assert seen[rows, columns].size <= 1 << 20
            seen[rows, columns] += 1

        assert (seen == 1).all()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", FILES)
def test_reading_in_blocks_gives_the_same_values(name: str) -> None:
    image, whole = decode_image(FILES[name], max_pixels=10_000, max_frames=1), WHOLE[name]

    assert np.array_equal(image.values, whole.values)
    assert image.is_one_bit == whole.is_one_bit
    assert alpha_of(image) == alpha_of(whole)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("media_type", ["image/png", "image/tiff"])
@pytest.mark.parametrize("name", FILES)
def test_writing_in_blocks_loses_nothing(name: str, media_type: str) -> None:
    whole = WHOLE[name]

    image = decode_image(encode_image(whole, media_type), max_pixels=10_000, max_frames=1)

    assert np.array_equal(image.values, whole.values)
    assert alpha_of(image) == alpha_of(whole)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_written_in_blocks(channels: int) -> None:
    values: NDArray[np.uint16] = np.random.default_rng(0).integers(0, 2**16, (1, channels, HEIGHT, WIDTH), np.uint16)

    image = decode_image(encode_image(Image(values), "image/png"), max_pixels=10_000, max_frames=1)

    assert np.array_equal(image.values, values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_pillow(orientation: int) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    data = saved("RGBA", exif=exif)

    image = decode_image(data, max_pixels=10_000, max_frames=1)

    upright = np.asarray(ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data))))
    assert image.alpha is not None
    assert np.array_equal(np.moveaxis(np.concatenate([image.values[0], image.alpha[None]]), 0, -1), upright)
