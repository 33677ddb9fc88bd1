"""Pictures of 100 megapixels: what fits the memory of one request, and what is refused before it is decoded."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from starlette.testclient import TestClient

from service.errors import BrokenImage
from service.images.guards import jpeg
from service.images.header import Header
from service.images.inspect import peek
from service.limits import InputLimits
from service.settings import Settings
from service.tasks.peak import most_pixels, peak_bytes
from tests.service.conftest import MakeClient
from tests.service.files import hand_png, pixels_of, png, save
from tests.service.toymodels import publish_blur

SIDE = 10_000
DEFAULT = Settings()
RNG = np.random.default_rng(5)
COLOUR = PillowImage.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8))

BASELINE = Header("JPEG", SIDE, SIDE, channels=3)
GREY = Header("PNG", SIDE, SIDE, is_colour=False, channels=1)
RGB = Header("PNG", SIDE, SIDE, channels=3)
RGBA = Header("PNG", SIDE, SIDE, channels=4)
FIT = {
    "a JPEG": (BASELINE, None, 60),
    "a JPEG as PNG": (BASELINE, "image/png", 60),
    "a progressive JPEG of subsampled colour": (
        Header("JPEG", SIDE, SIDE, channels=3, decoder_bytes=3.0), None, 60,
    ),
    "a grey PNG": (GREY, None, 90),
    "a grey PNG of 16 bits": (Header("PNG", SIDE, SIDE, is_colour=False, channels=1, depth=2), None, 100),
    "an RGB PNG": (RGB, None, 128),
}  # fmt: skip
DO_NOT_FIT = {
    "an array of colour": (BASELINE, "application/x-npy"),
    "a transparent PNG": (RGBA, None),
    "an RGB PNG of 16 bits": (Header("PNG", SIDE, SIDE, channels=3, depth=2, decoder_bytes=8.0), None),
    "a progressive JPEG of full colour": (Header("JPEG", SIDE, SIDE, channels=3, decoder_bytes=6.0), None),
    "a JPEG as WebP": (BASELINE, "image/webp"),
}


def expected(header: Header, accept: str | None) -> int:
    return peak_bytes(header, header.pixels or 0, accept=accept, scale=1, is_tiled=True)


@pytest.mark.parametrize("name", FIT)
def test_by_default_a_hundred_megapixels_fit(name: str) -> None:
    header, accept, file_mib = FIT[name]
    limits = InputLimits(DEFAULT.max_pixels, DEFAULT.max_images, DEFAULT.max_frames)

    assert (header.pixels or 0) <= most_pixels(header, limits, scale=1)
    assert file_mib * 2**20 <= DEFAULT.max_body_bytes
    assert expected(header, accept) + file_mib * 2**20 <= DEFAULT.max_request_memory_bytes


@pytest.mark.parametrize("name", DO_NOT_FIT)
def test_by_default_a_hundred_megapixels_are_too_many(name: str) -> None:
    assert expected(*DO_NOT_FIT[name]) > DEFAULT.max_request_memory_bytes


@pytest.fixture
def blur(models_dir: Path, make_client: MakeClient) -> TestClient:
    """Models of any size that denoise colour and enlarge twice; 10,000 pixels at most, and 50,000 in tiles."""
    publish_blur(models_dir, name="colour", channels=3, default_for=["denoise"])
    publish_blur(models_dir, name="twice", scale=2)
    return make_client(max_pixels=10_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_runs_in_tiles_may_have_five_times_as_many_pixels(blur: TestClient, kind: str) -> None:
    allowed, too_large = (save(COLOUR.resize((side, side)), kind) for side in (220, 230))

    assert pixels_of(blur.post("/denoise", content=allowed).content).shape == (220, 220, 3)
    assert blur.post("/denoise", content=too_large).json()["code"] == "too-many-pixels"


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_formats_that_are_read_in_one_step_may_not(blur: TestClient, kind: str) -> None:
    answer = blur.post("/denoise", content=save(COLOUR.resize((120, 120)), kind))

    assert answer.status_code == 413
    assert "10000" in answer.json()["detail"]
    assert "50000 for PNG and JPEG" in answer.json()["detail"]


def test_what_is_enlarged_may_not(blur: TestClient) -> None:
    assert blur.post("/enhance", content=png(np.zeros((48, 48), np.uint8))).status_code == 200
    assert blur.post("/enhance", content=png(np.zeros((60, 60), np.uint8))).json()["code"] == "too-many-pixels"


@pytest.mark.parametrize(
    ("colour", "headers", "cure"),
    [
        (6, {}, "remove its transparency"),
        (2, {"Accept": "application/x-npy"}, "Accept: image/png"),
        (2, {"Accept": "image/webp"}, "request PNG or JPEG"),
    ],
)
def test_too_much_memory_is_refused_before_decoding(
    models_dir: Path, make_client: MakeClient, colour: int, headers: dict[str, str], cure: str
) -> None:
    publish_blur(models_dir, name="colour", channels=3, default_for=["denoise"])
    picture = hand_png(SIDE, SIDE, b"", colour=colour)  # without data: decoding would be a 422

    answer = make_client().post("/denoise", content=picture, headers=headers)

    assert answer.status_code == 413
    assert answer.json()["code"] == "too-much-memory"
    assert "max_request_memory_bytes" in answer.json()["detail"]
    assert cure in answer.json()["detail"]


def test_the_limit_of_memory_is_a_setting(models_dir: Path, make_client: MakeClient) -> None:
    publish_blur(models_dir, name="colour", channels=3, default_for=["denoise"])
    picture = hand_png(SIDE, SIDE, b"", colour=6)

    answer = make_client(max_request_memory_bytes=2**32, request_timeout_s=3600).post("/denoise", content=picture)

    assert answer.json()["code"] == "broken-image"


@pytest.mark.parametrize(
    ("options", "bytes_a_pixel"),
    [
        ({}, 0),
        ({"progressive": True, "subsampling": 0}, 6),
        ({"progressive": True, "subsampling": 2}, 3),
    ],
)
def test_the_coefficients_of_a_progressive_jpeg_are_counted(options: dict[str, int], bytes_a_pixel: float) -> None:
    header = peek(save(COLOUR, "JPEG", **options))

    assert header.decoder_bytes == bytes_a_pixel
    assert header.pixels == 2000


def test_the_coefficients_of_a_jpeg_with_a_scan_for_each_component_are_counted() -> None:
    content = save(COLOUR, "JPEG", subsampling=0)
    at = content.index(b"\xff\xda")

    assert peek(content[: at + 4] + b"\1" + content[at + 5 :]).decoder_bytes == 6


def test_many_scans_of_many_pixels_are_refused() -> None:
    content = save(COLOUR, "JPEG", progressive=True)
    at = content.index(b"\xff\xc2") + 5
    large = content[:at] + struct.pack(">HH", 13_000, 13_000) + content[at + 4 :]

    assert jpeg.walk(content).width == 50
    with pytest.raises(BrokenImage, match="10 scans"):
        jpeg.walk(large)


def test_a_large_upright_picture_is_answered_as_a_small_one(blur: TestClient) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PillowImage.fromarray(RNG.integers(0, 256, (100, 150, 3), np.uint8)).save(file, "PNG", exif=exif)

    answer = blur.post("/denoise", content=file.getvalue())

    assert pixels_of(answer.content).shape == (150, 100, 3)
