"""Every sound kind of image comes out right: depth, channels, transparency, orientation, size."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.images.codec import decode_image
from service.images.codec import encode_image as encode
from service.images.image import Image as Decoded
from service.images.inspect import peek
from tests.service.files import pixels_of, png, save

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (6, 5), np.uint8)
RGB = RNG.integers(0, 256, (6, 5, 3), np.uint8)


def decode(content: bytes) -> Decoded:
    return decode_image(content, max_pixels=10_000, max_frames=3)


def test_eight_bit_grey_is_exactly_value_over_255_in_float32() -> None:
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16)

    pixels = decode(png(every_level)).pixels(1)

    expected = np.array([np.float32(v) / np.float32(255) for v in range(256)], np.float32).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(pixels, expected)


def test_colour_becomes_grey_as_pillow_does_it() -> None:
    levels = np.round(decode(png(RGB)).pixels(1) * 255)

    np.testing.assert_array_equal(levels[0, 0], np.array(Image.fromarray(RGB).convert("L")))


def test_grey_becomes_colour_by_repeating_it() -> None:
    pixels = decode(png(GREY)).pixels(3)

    np.testing.assert_array_equal(pixels, np.repeat(GREY[None, None] / np.float32(255), 3, axis=1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_every_bit(kind: str) -> None:
    values = RNG.integers(0, 65536, (6, 5), np.uint16)

    image = decode(save(Image.fromarray(values), kind))

    np.testing.assert_array_equal(image.values[0, 0], values)
    again = image.with_pixels(image.pixels(1))
    np.testing.assert_array_equal(again.values, image.values)
    np.testing.assert_array_equal(pixels_of(encode(again, "image/png")), values)
    np.testing.assert_array_equal(pixels_of(encode(again, "image/tiff")), values)


def test_big_endian_sixteen_bit_tiff_comes_out_right() -> None:
    values = RNG.integers(0, 65536, (6, 5), np.uint16)
    # A minimal big-endian TIFF: header, one strip, directory.
    strip = values.astype(">u2").tobytes()
    entries = [
        (256, 3, 5),
        (257, 3, 6),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 6),
        (279, 4, len(strip)),
    ]
    directory = len(entries).to_bytes(2, "big")
    for tag, kind, value in entries:
        data = value.to_bytes(2, "big") + b"\0\0" if kind == 3 else value.to_bytes(4, "big")
        directory += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + data
    content = b"MM\0*" + (8 + len(strip)).to_bytes(4, "big") + strip + directory + b"\0" * 4

    np.testing.assert_array_equal(decode(content).values[0, 0], values)


def test_a_sixteen_bit_image_stays_sixteen_bit_through_the_service(client: TestClient) -> None:
    values = np.full((4, 4), 40_002, np.uint16)

    response = client.post("/denoise", content=png(values))
    as_jpeg = client.post("/denoise", content=png(values), headers={"Accept": "image/jpeg"})

    np.testing.assert_array_equal(pixels_of(response.content), values // 2)
    assert as_jpeg.status_code == 406


def test_one_bit_comes_back_as_one_bit(client: TestClient) -> None:
    picture = Image.fromarray(np.eye(4, dtype=bool))

    response = client.post("/denoise", content=save(picture, "PNG"))

    with Image.open(io.BytesIO(response.content)) as result:
        assert result.mode == "1"
        # Half of 1.0 rounds up to white.
        np.testing.assert_array_equal(np.array(result), np.eye(4, dtype=bool))


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_passes_through(client: TestClient, channels: int) -> None:
    values = RNG.integers(0, 256, (4, 4, channels), np.uint8)
    values[..., :-1] = 200

    response = client.post("/denoise", content=png(values))

    result = pixels_of(response.content)
    np.testing.assert_array_equal(result[..., -1], values[..., -1])
    assert (result[..., :-1] == 100).all()


def test_transparency_refuses_jpeg_and_takes_webp(client: TestClient) -> None:
    transparent = png(np.full((4, 4, 4), 128, np.uint8))

    assert client.post("/denoise", content=transparent, headers={"Accept": "image/jpeg"}).status_code == 406
    assert client.post("/denoise", content=transparent, headers={"Accept": "image/webp"}).status_code == 200


def test_a_palette_becomes_its_colours() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])

    image = decode(save(picture, "PNG"))

    assert image.values[0, :, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]


def test_a_transparent_palette_becomes_colours_and_alpha() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])

    image = decode(save(picture, "PNG", transparency=1))

    assert image.alpha is not None
    assert image.alpha.tolist() == [[255, 0]]


def test_a_transparent_grey_level_becomes_alpha() -> None:
    image = decode(save(Image.fromarray(np.array([[7, 9]], np.uint8)), "PNG", transparency=9))

    assert image.channels == 1
    assert image.alpha is not None
    assert image.alpha.tolist() == [[255, 0]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red

    image = decode(save(picture, kind))

    red, green, blue = image.values[0, :, 8, 8]
    assert red > 245  # JPEG is off by a few levels
    assert green < 10
    assert blue < 10


def test_a_gif_shows_its_first_frame() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (50, 150)]

    image = decode(save(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    assert np.unique(image.values).tolist() == [50]


# How each EXIF orientation is stored, undone by hand with NumPy: stored image -> upright image.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.T, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation

    image = decode(save(Image.fromarray(GREY), "PNG", exif=exif))

    np.testing.assert_array_equal(image.values[0, 0], UPRIGHT[orientation](GREY))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_every_format_is_read_by_its_magic_bytes(client: TestClient, kind: str) -> None:
    content = save(Image.fromarray(np.full((4, 4), 100, np.uint8)).convert("RGB"), kind)

    response = client.post("/denoise", content=content, headers={"Content-Type": "image/whatever"})

    assert response.status_code == 200
    assert abs(int(pixels_of(response.content).mean()) - 50) <= 2  # JPEG and WebP are off by a level or two


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_low_bit_palettes_and_odd_widths_pass_the_png_checks(bits: int) -> None:
    picture = Image.new("P", (13, 7))
    picture.putpalette([level for i in range(2**bits) for level in (i, i, i)])
    picture.putdata([i % 2**bits for i in range(13 * 7)])

    image = decode(save(picture, "PNG", bits=bits))

    assert image.values[0, 0].ravel().tolist() == [i % 2**bits for i in range(13 * 7)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_head_of_a_file_tells_its_size_and_whether_it_has_colour(kind: str, mode: str) -> None:
    header = peek(save(Image.new(mode, (90, 70)), kind))

    assert (header.kind, header.width, header.height, header.pixels) == (kind, 90, 70, 90 * 70)
    assert header.is_colour is (
        mode == "RGB" or kind not in {"PNG", "JPEG", "AVIF", "HEIF"}
    )  # the others do not say it in their head


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_head_that_is_cut_off_or_lies_is_no_error(kind: str) -> None:
    content = save(Image.new("RGB", (37, 21)), kind)
    changes = ((i, (content[i] + step) % 256) for i in range(12, min(len(content), 64)) for step in (1, 128))

    heads = [peek(content[:size]) for size in range(12, len(content))]
    heads += [peek(content[:i] + bytes([value]) + content[i + 1 :]) for i, value in changes]

    assert {header.kind for header in heads} == {kind}


def test_an_exif_thumbnail_and_a_colour_profile_do_not_hide_the_size_of_a_jpeg() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    content = save(Image.new("L", (37, 21)), "JPEG", exif=exif, icc_profile=b"p" * 300_000)

    assert (peek(content).width, peek(content).height, peek(content).is_colour) == (37, 21, False)


def test_an_array_that_states_two_shapes_is_counted_as_none() -> None:
    assert peek(b"\x93NUMPY\x01\x00v\x00{'shape': (1, 1, 8, 8), 'shape': (24, 1, 8, 8), }").shape == ()


@pytest.mark.parametrize(("side", "compression"), [(700, "tiff_adobe_deflate"), (800, "raw")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_tiff_is_written_without_the_compression_that_would_keep_others_waiting(
    side: int, compression: str, dtype: type[np.integer]
) -> None:
    sent = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (side, side), dtype)
    decoded = decode_image(save(Image.fromarray(sent), "TIFF", dpi=(300, 300)), max_pixels=10**6, max_frames=1)

    answer = encode(decoded, "image/tiff")

    with Image.open(io.BytesIO(answer)) as picture:
        assert picture.info["compression"] == compression
        assert picture.info["dpi"] == (300, 300)
        np.testing.assert_array_equal(np.asarray(picture), sent)
