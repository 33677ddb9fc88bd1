"""HEIC files: read where pillow-heif is installed, and refused where they announce less than they hold."""

import functools
import struct
import sys
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.errors import BrokenImage, TooManyPixels, UnsupportedImage, UnsupportedMediaType
from service.images import heic
from service.images.codec import decode_image
from service.images.guards import hevc
from service.images.guards.boxes import Steps
from service.images.image import Image as Decoded
from service.images.inspect import peek
from tests.service.files import announce, save

RAMP = Image.fromarray(np.add.outer(np.arange(64), 3 * np.arange(80)).astype(np.uint8)).convert("RGB")
STILL = save(RAMP, "HEIF", quality=95, chroma=444)


@functools.cache
def flat() -> bytes:
    """8 megapixels in a few kilobytes, which take half a second to write."""
    return save(Image.new("RGB", (4096, 2048)), "HEIF", enc_params={"preset": "ultrafast"})


def decode(content: bytes) -> Decoded:
    return decode_image(content, max_pixels=10_000_000, max_frames=3)


def configuration_of(content: bytes) -> memoryview:
    """Return the content of the box `hvcC`."""
    at = content.index(b"hvcC")
    return memoryview(content)[at + 4 : at - 4 + int.from_bytes(content[at - 4 : at], "big")]


def sequence_of(content: bytes) -> bytes:
    """Return the unit with the parameters of the sequence."""
    configuration = bytes(configuration_of(content))
    at = configuration.index(b"\x42\x01") - 2
    return configuration[at + 2 : at + 2 + int.from_bytes(configuration[at : at + 2], "big")]


def units(*contents: bytes) -> memoryview:
    """Put units together, each behind its length."""
    return memoryview(b"".join(len(content).to_bytes(4, "big") + content for content in contents))


FRAME = b"\x26\x01\x80"  # the start of a slice that begins a frame
LATER_SLICE = b"\x26\x01\x00"


def test_colour_grey_and_transparency_are_read() -> None:
    clear = RAMP.copy()
    clear.putalpha(Image.fromarray(np.full((64, 80), 100, np.uint8)))

    colour, grey, alpha = (decode(save(picture, "HEIF")) for picture in (RAMP, RAMP.convert("L"), clear))

    assert (colour.channels, grey.channels, alpha.channels) == (3, 1, 3)
    assert alpha.alpha is not None
    assert abs(int(alpha.alpha.mean()) - 100) <= 2  # HEVC is lossy
    assert np.abs(decode(STILL).values[0, 0].astype(int) - np.asarray(RAMP)[..., 0]).max() <= 8


def test_a_grid_of_tiles_is_read_as_phones_write_it() -> None:
    tiled = save(RAMP.resize((320, 256)), "HEIF", tile_size=64)

    assert b"grid" in tiled
    assert decode(tiled).size == (256, 320)


def test_the_answer_to_a_heic_is_an_upright_jpeg_with_its_metadata(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"

    image = decode(save(RAMP, "HEIF", exif=exif.tobytes()))

    assert (image.size, image.media_type) == ((80, 64), "image/jpeg")
    assert image.exif is not None
    assert b"maker" in image.exif
    assert client.post("/denoise", content=STILL).headers["content-type"] == "image/jpeg"


def test_without_the_package_the_refusal_says_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    heic.prepare.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(UnsupportedMediaType, match=r"install hourglass-service\[heic\], or convert the image"):
        decode(STILL)


@pytest.mark.parametrize("brand", [b"mif1", b"msf1", b"heix", b"hevc"])
def test_the_brand_may_be_another_one_of_heif(brand: bytes) -> None:
    assert decode(STILL[:8] + brand + STILL[12:]).size == (64, 80)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (4096, 16)])
def test_a_frame_larger_than_announced_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImage, match=rf"HEIC: it announces {size[0]}x{size[1]}, but .* have 8388608 pixels"):
        decode(announce(flat(), *size))


@pytest.mark.parametrize(("aperture", "size"), [((40, 20), (20, 40)), ((3000, 3000), (64, 80))])
def test_a_clean_aperture_crops_the_frame_and_never_enlarges_it(
    aperture: tuple[int, int], size: tuple[int, int]
) -> None:
    content = save(RAMP, "HEIF", icc_profile=bytes(28))  # as long as an aperture
    at = content.index(b"colrprof")
    width, height = aperture
    cropped = content[:at] + b"clap" + struct.pack(">8I", width, 1, height, 1, 0, 1, 0, 1) + content[at + 36 :]

    assert peek(cropped).pixels == 64 * 80  # what is decoded
    assert decode(cropped).size == size


def test_a_size_far_above_the_frame_is_refused() -> None:
    with pytest.raises(TooManyPixels, match="65535x65535"):
        decode(announce(STILL, 65_535, 65_535))


@pytest.mark.parametrize(
    ("announced", "change"),
    [
        ("no size", lambda data: data.replace(b"ispe", b"free")),
        ("no picture", lambda data: data.replace(b"pitm", b"free")),
        ("no data", lambda data: data[: data.index(b"mdat") + 4]),
        ("no configuration", lambda data: data.replace(b"hvcC", b"free")),
        ("no parameters", lambda data: data.replace(sequence_of(data), bytes(len(sequence_of(data))))),
        ("another coding", lambda data: data.replace(b"hvc1", b"unci")),
        ("a picture put together of others", lambda data: data.replace(b"hvc1", b"iovl")),
    ],
)  # fmt: skip
def test_damaged_and_foreign_files_are_refused(announced: str, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises((BrokenImage, UnsupportedImage)):
        decode(change(STILL))
    assert peek(change(STILL)).kind == "HEIF", announced


def test_the_coded_size_of_each_frame_counts() -> None:
    configuration = configuration_of(flat())

    assert hevc.frame_pixels(units(FRAME, LATER_SLICE), configuration, Steps(200, "HEIC")) == 4096 * 2048
    assert hevc.frame_pixels(units(FRAME, FRAME), configuration, Steps(200, "HEIC")) == 2 * 4096 * 2048
    with pytest.raises(BrokenImage, match="more than 100 boxes"):
        hevc.frame_pixels(units(*[LATER_SLICE] * 90), configuration, Steps(100, "HEIC"))


def test_parameters_in_the_data_count_as_those_beside_it() -> None:
    small, large = configuration_of(STILL), sequence_of(flat())

    assert hevc.frame_pixels(units(FRAME), small, Steps(200, "HEIC")) < 10_000
    assert hevc.frame_pixels(units(large, FRAME), small, Steps(200, "HEIC")) == 4096 * 2048


def test_data_of_a_further_layer_is_left_out() -> None:
    layer = bytes([0x26, 0x09, 0x80])  # decoders skip it

    assert hevc.frame_pixels(units(layer), configuration_of(flat()), Steps(200, "HEIC")) == 0


def test_truncated_units_are_refused() -> None:
    with pytest.raises(BrokenImage, match="HEVC data is truncated"):
        hevc.frame_pixels(units(FRAME)[:-1], configuration_of(STILL), Steps(200, "HEIC"))
    with pytest.raises(BrokenImage, match="truncated"):
        hevc.frame_pixels(units(sequence_of(STILL)[:10], FRAME), configuration_of(STILL), Steps(200, "HEIC"))
