"""Files as cameras, scanners and microscopes write them: what is read of them, and what an answer keeps."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage

from service.errors import BrokenImage, RequestError, TooManyImages, TooManyPixels, UnsupportedImage
from service.images import float_tiff
from service.images.codec import decode_image, encode_image, image_types
from service.images.form import DataRange, Form
from service.images.guards.png import SIGNATURE
from service.images.image import as_sent
from service.images.inspect import peek
from service.images.npy import read_npy_image
from tests.service.files import Array, pixels_of, save, to_npy

RNG = np.random.default_rng(7)
SMOOTH = (np.add.outer(np.arange(24), np.arange(32)) * 4).astype(np.uint8)
COLOUR = np.stack([SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1]], axis=2)
MAX_FRAMES = 8
LAST = Form(is_channels_last=True)


def read(data: bytes) -> Array:
    values: Array = decode_image(data, max_pixels=10_000, max_frames=MAX_FRAMES).values[0]
    return values


def jpeg_with(filling: bytes) -> bytes:
    """A JPEG with these bytes before every marker behind the first one and up to the first scan."""
    data = save(PillowImage.fromarray(COLOUR), "JPEG", quality=95)
    made, position = data[:2], 2
    while data[position + 1] != 0xDA:
        length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        made += (filling if position > 2 else b"") + data[position : position + length]
        position += length
    return made + filling + data[position:]


@pytest.mark.parametrize("filling", [b"\xff", b"\xff" * 5, b"\x00", b"\x00\x00\x00", b"\x01\x02junk\xff"])
def test_what_fills_the_space_between_segments_of_a_jpeg_is_skipped(filling: bytes) -> None:
    data = jpeg_with(filling)

    assert (read(data) == read(jpeg_with(b""))).all()
    head = peek(data)
    assert (head.width, head.height, head.is_colour) == (32, 24, True)


def test_a_jpeg_without_any_marker_behind_its_start_is_broken() -> None:
    with pytest.raises(RequestError, match="no marker"):
        read(b"\xff\xd8\xff" + b"\x00" * 50)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_long_animation_answers_with_its_first_frame(kind: str, options: dict[str, object]) -> None:
    frames = [PillowImage.fromarray(np.full((8, 8), level, np.uint8)) for level in range(0, 250, 5)]
    data = save(frames[10], kind, save_all=True, append_images=frames, **options)

    assert np.unique(read(data)).tolist() == [50]


def test_pages_of_a_tiff_are_limited() -> None:
    page = PillowImage.fromarray(SMOOTH)

    assert (read(save(page, "TIFF", save_all=True, append_images=[page] * (MAX_FRAMES - 1)))[0] == SMOOTH).all()
    with pytest.raises(TooManyImages, match="9 pages"):
        read(save(page, "TIFF", save_all=True, append_images=[page] * MAX_FRAMES))


def test_what_phones_write_is_answered_as_jpeg() -> None:
    two = save(PillowImage.fromarray(COLOUR), "MPO", save_all=True, append_images=[PillowImage.fromarray(COLOUR)])

    image = decode_image(two, max_pixels=10_000, max_frames=MAX_FRAMES)

    assert image.media_type == "image/jpeg"
    assert image_types(image)[0] == "image/jpeg"
    assert image.values.shape == (1, 3, 24, 32)


def tiff(values: Array, *, bits: int, is_white_zero: bool = False) -> bytes:
    """A TIFF of grey in one strip: 12 bits are packed, two pixels in three bytes; 16 stand alone."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(height, width // 2, 2).astype(np.uint32)
        packed = pairs[..., 0] << 12 | pairs[..., 1]
        strip = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8).tobytes()
    else:
        strip = values.astype("<u2").tobytes()
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if is_white_zero else 1), (273, 8)]
    entries += [(277, 1), (278, height), (279, len(strip))]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    return head + strip + struct.pack("<H", len(entries)) + directory + bytes(4)


def test_twelve_bits_are_scaled_to_sixteen() -> None:
    values = RNG.integers(0, 4096, (6, 8))
    values[0, :3] = 0, 4095, 2048

    found = read(tiff(values, bits=12))[0]

    assert found.dtype == np.uint16
    assert found[0, :2].tolist() == [0, 65535]
    assert np.abs(found - values * 65535 / 4095).max() <= 0.5


def test_white_may_be_zero_at_sixteen_bits() -> None:
    values = RNG.integers(0, 65536, (6, 8))

    assert (read(tiff(values, bits=16))[0] == values).all()
    assert (read(tiff(values, bits=16, is_white_zero=True))[0] == 65535 - values).all()


def deep_tiff(values: Array, *, order: str, is_packed: bool = False, orientation: int = 1, planes: int = 1) -> bytes:
    """A TIFF of RGB of 16 bits or float32, (H, W, 3), in one strip: as it is, or deflated, integers as differences."""
    height, width, channels = values.shape
    is_float = values.dtype == np.float32
    differs = is_packed and not is_float
    strip = np.diff(values, axis=1, prepend=np.uint16(0)) if differs else values  # modulo 65536
    content = strip.astype(f"{order}{strip.dtype.str[1:]}").tobytes()
    content = zlib.compress(content) if is_packed else content
    content += bytes(len(content) % 2)
    entries = [(256, width), (257, height), (258, 8 + len(content)), (259, 8 if is_packed else 1), (262, 2), (273, 8)]
    entries += [(274, orientation), (277, channels), (278, height), (279, len(content)), (284, planes)]
    entries += [(317, 2 if differs else 1), (339, 8 + len(content) + 6)]
    directory = b"".join(
        struct.pack(f"{order}HHII", tag, *((3, channels) if tag in {258, 339} else (4, 1)), value)
        for tag, value in entries
    )
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(content) + 12)
    bits = struct.pack(f"{order}6H", *[8 * values.itemsize] * 3, *[3 if is_float else 1] * 3)
    return head + content + bits + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_tiff_of_sixteen_bit_colour_keeps_every_bit(order: str, is_packed: bool, orientation: int) -> None:
    values = RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16)

    image = decode_image(
        deep_tiff(values, order=order, is_packed=is_packed, orientation=orientation), max_pixels=100, max_frames=1
    )

    upright = np.rot90(values, -1) if orientation == 6 else values
    np.testing.assert_array_equal(image.values[0], np.moveaxis(upright, 2, 0))
    assert image_types(image) == ("image/png",)


def test_separate_planes_of_sixteen_bits_are_refused_with_the_cure() -> None:
    values = RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16)

    with pytest.raises(UnsupportedImage, match="in separate planes would lose precision; send 8 bits"):
        decode_image(deep_tiff(values, order="<", planes=2), max_pixels=100, max_frames=1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_resolution_is_kept(kind: str) -> None:
    data = save(PillowImage.fromarray(COLOUR), kind, dpi=(300, 150))

    image = decode_image(data, max_pixels=10_000, max_frames=MAX_FRAMES)
    assert image.dpi == pytest.approx((300, 150), abs=0.02)  # PNG counts pixels per metre

    for answer in ("image/png", "image/jpeg", "image/tiff"):
        with PillowImage.open(io.BytesIO(encode_image(image, answer))) as made:
            assert made.info["dpi"] == pytest.approx((300, 150), abs=0.5)


@pytest.mark.parametrize("dpi", [(0, 0), (72, 0), (1e9, 1e9)])
def test_a_resolution_that_nobody_uses_is_left_out(dpi: tuple[float, float]) -> None:
    chunk = struct.pack(">4sIIB", b"pHYs", *(min(round(value / 0.0254), 2**32 - 1) for value in dpi), 1)
    data = save(PillowImage.fromarray(SMOOTH), "PNG")
    with_chunk = data[:33] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]

    assert decode_image(with_chunk, max_pixels=10_000, max_frames=MAX_FRAMES).dpi is None


def deep_png(values: Array, *, orientation: int = 1) -> bytes:
    """A PNG of 16-bit RGB: (H, W, 3)."""
    height, width, _ = values.shape
    rows = np.zeros((height, 1 + width * 6), np.uint8)
    rows[:, 1:] = values.astype(">u2").view(np.uint8).reshape(height, -1)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"eXIf", exif.tobytes()[6:])]
    chunks += [(b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_sixteen_bits_of_colour_keep_their_lower_eight() -> None:
    values = RNG.integers(0, 65536, (5, 7, 3), np.uint16)

    image = decode_image(deep_png(values), max_pixels=10_000, max_frames=MAX_FRAMES)

    assert (np.moveaxis(image.values[0], 0, 2) == values).all()
    assert image_types(image) == ("image/png",)
    again = decode_image(encode_image(image, "image/png"), max_pixels=10_000, max_frames=MAX_FRAMES)
    assert (again.values == image.values).all()
    assert np.abs(image.pixels(1)[0, 0] - values @ [0.299, 0.587, 0.114] / 65535).max() < 2e-5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_of_colour_are_turned_upright_as_eight_are(orientation: int) -> None:
    values = RNG.integers(0, 256, (5, 7, 3), np.uint16)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    eight = read(save(PillowImage.fromarray(values.astype(np.uint8)), "PNG", exif=exif))

    assert (read(deep_png(values * 257, orientation=orientation)) == eight.astype(np.uint16) * 257).all()


def test_profile_and_exif_of_a_png_stay_readable() -> None:
    exif = PillowImage.Exif()
    exif[0x010E] = "a hill"
    profile = bytearray(RNG.integers(0, 256, 200, np.uint8).tobytes())
    profile[16:20] = b"RGB "
    image = decode_image(
        save(PillowImage.fromarray(COLOUR), "PNG", exif=exif, icc_profile=bytes(profile), dpi=(72, 72)),
        max_pixels=10_000, max_frames=MAX_FRAMES,
    )  # fmt: skip

    made = encode_image(image, "image/png")

    with PillowImage.open(io.BytesIO(made)) as picture:
        assert picture.info["icc_profile"] == bytes(profile)
        assert picture.getexif()[0x010E] == "a hill"
    assert (pixels_of(made) == COLOUR).all()


def test_arrays_of_sixteen_bits_become_floats_as_those_of_eight_do() -> None:
    values = RNG.integers(0, 65536, (3, 4, 5), np.uint16)

    image = read_npy_image(to_npy(values), max_pixels=100, max_images=1)

    assert np.abs(image.pixels(3)[0] - values / 65535).max() < 1e-7
    assert image.to_depth(image.pixels(3)).dtype == np.float32


def test_channels_at_the_end_are_refused_with_the_cure() -> None:
    with pytest.raises(RequestError, match="layout=hwc"):
        read_npy_image(to_npy(np.zeros((8, 9, 3), np.uint8)), max_pixels=100, max_images=1)
    with pytest.raises(RequestError, match="leave layout out"):
        read_npy_image(to_npy(np.zeros((3, 9, 8), np.uint8)), max_pixels=100, max_images=1, form=LAST)
    with pytest.raises(RequestError, match=r"np.moveaxis\(x, -1, -3\)"):
        read_npy_image(to_npy(np.zeros((8, 9, 3), np.uint8)), max_pixels=100, max_images=1)
    with pytest.raises(RequestError, match=r"is 1 or 3$"):
        read_npy_image(to_npy(np.zeros((8, 9, 7), np.uint8)), max_pixels=100, max_images=1)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 3), (2, 6, 7, 3)])
def test_channels_last_come_and_go_as_they_are(shape: tuple[int, ...]) -> None:
    values = RNG.random(shape).astype(np.float32)

    image = read_npy_image(to_npy(values), max_pixels=100, max_images=2, form=LAST)

    assert image.size == (6, 7)
    assert image.channels == (shape[-1] if len(shape) > 2 else 1)
    assert np.array_equal(as_sent(image), values)
    header = peek(to_npy(values), LAST)
    assert (header.images, header.height, header.width) == (shape[0] if len(shape) == 4 else 1, 6, 7)
    assert header.is_colour == (shape[-1] == 3)


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "i4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize(("data_range", "expected"), [(200.0, [0.0, 0.25, 0.5]), ("auto", [0.0, 0.5, 1.0])])
def test_numbers_of_any_type_have_the_range_that_is_said(
    dtype: str, data_range: DataRange, expected: list[float]
) -> None:
    values = np.array([[0, 50, 100]]).astype(dtype)

    image = read_npy_image(to_npy(values), max_pixels=10, max_images=1, form=Form(data_range))

    assert image.values.dtype == np.float32
    assert image.values.ravel() == pytest.approx(expected)
    assert as_sent(image) == pytest.approx(values.astype(np.float64))


def test_noise_beyond_black_and_white_is_not_clipped() -> None:
    noisy = np.array([[-0.2, 0.5, 1.3]], np.float32)

    image = read_npy_image(to_npy(noisy), max_pixels=10, max_images=1, form=Form(1.0))

    assert image.values.ravel() == pytest.approx([-0.2, 0.5, 1.3])


def test_auto_takes_negative_numbers_and_a_flat_picture() -> None:
    hounsfield, flat = np.array([[-1000, 0, 3000]], np.int16), np.full((2, 2), 7.5, np.float64)

    read_one, read_flat = (
        read_npy_image(to_npy(x), max_pixels=10, max_images=1, form=Form("auto")) for x in (hounsfield, flat)
    )

    assert read_one.values.ravel() == pytest.approx([0, 0.25, 1])
    assert as_sent(read_one) == pytest.approx(hounsfield.astype(np.float64))
    assert not read_flat.values.any()
    assert as_sent(read_flat).tolist() == flat.tolist()


@pytest.mark.parametrize(
    ("values", "data_range", "cure"),
    [
        (np.array([[0.0, 255.0]], np.float32), None, "data_range=255"),
        (np.array([[0.0, 255.0]], np.float32), 1.0, "data_range=auto"),
        (np.array([[-3.0, 1.0]], np.float32), 1.0, "data_range=auto"),
        (np.array([[0.0, np.nan]], np.float32), "auto", "nan_to_num"),
        (np.array([[0.0, np.inf]], np.float32), 1.0, "nan_to_num"),
        (np.array([[0, 5]], np.int16), None, "give data_range"),
        (np.array([[True, False]]), "auto", "floats or integers"),
        (np.array([[1j]]), 1.0, "floats or integers"),
    ],
)
def test_values_that_do_not_fit_their_range_are_refused_with_the_cure(
    values: Array, data_range: DataRange | None, cure: str
) -> None:
    with pytest.raises(RequestError, match=cure):
        read_npy_image(to_npy(values), max_pixels=10, max_images=1, form=Form(data_range))


@pytest.mark.parametrize("data_range", [None, 4.0, "auto"])
def test_a_tiff_of_floats_comes_back_as_one_with_its_range(data_range: DataRange | None) -> None:
    values = RNG.random((6, 7), np.float32)
    if data_range is not None:
        values = values * 3 + 0.5
    file = save(PillowImage.fromarray(values), "TIFF")

    image = decode_image(file, max_pixels=100, max_frames=1, form=Form(data_range))

    assert image_types(image) == ("image/tiff",)
    assert image.values.min() >= 0
    assert image.values.max() <= 1
    assert pixels_of(encode_image(image, "image/tiff")) == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(("data_range", "orientation"), [(None, 1), (4.0, 6), ("auto", 1)])
def test_a_tiff_of_floats_in_colour_comes_back_as_one_with_its_range(
    order: str, is_packed: bool, data_range: DataRange | None, orientation: int
) -> None:
    values = RNG.random((6, 7, 3), np.float32)
    if data_range is not None:
        values = values * 3 + 0.5
    file = deep_tiff(values, order=order, is_packed=is_packed, orientation=orientation)
    form = Form(data_range)

    image = decode_image(file, max_pixels=42, max_frames=1, form=form)
    again = decode_image(encode_image(image, "image/tiff"), max_pixels=42, max_frames=1, form=form)

    upright = np.rot90(values, -1) if orientation == 6 else values
    assert image_types(image) == ("image/tiff",)
    assert as_sent(image) == pytest.approx(np.moveaxis(upright, 2, 0), rel=1e-5)
    assert as_sent(again) == pytest.approx(as_sent(image), rel=1e-5)


def test_deflated_floats_of_grey_are_read_in_either_order_of_bytes() -> None:
    values = RNG.random((6, 7), np.float32)
    columns = np.repeat(values, 3, axis=1).reshape(6, 7, 3)
    file = deep_tiff(columns, order=">", is_packed=True)
    found = float_tiff.as_grey(file)

    assert found is not None
    grey = decode_image(found[0], max_pixels=200, max_frames=1)

    np.testing.assert_array_equal(grey.values[0, 0], np.repeat(values, 3, axis=1))


def test_a_tiff_of_floats_in_colour_is_refused_if_it_is_large_or_in_another_layout() -> None:
    values = RNG.random((6, 7, 3), np.float32)

    with pytest.raises(TooManyPixels, match="7x6, 42 pixels"):
        decode_image(deep_tiff(values, order="<"), max_pixels=41, max_frames=1)
    with pytest.raises(UnsupportedImage, match="in separate planes, or with a predictor; write them pixel by pixel"):
        decode_image(deep_tiff(values, order="<", planes=2), max_pixels=100, max_frames=1)
    with pytest.raises(BrokenImage):
        decode_image(deep_tiff(values, order="<")[:-20], max_pixels=100, max_frames=1)


@pytest.mark.parametrize("form", [Form(255.0), Form("auto"), LAST])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_what_says_nothing_of_a_file_of_integers_is_refused(form: Form, kind: str) -> None:
    file = save(PillowImage.fromarray(COLOUR), kind)

    with pytest.raises(RequestError, match="leave it out"):
        decode_image(file, max_pixels=10_000, max_frames=1, form=form)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_tiff_compressed_as_jpeg_is_read(mode: str) -> None:
    picture = PillowImage.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))).convert(mode)
    file = save(picture, "TIFF", compression="jpeg", quality=95)

    image = decode_image(file, max_pixels=10_000, max_frames=1)

    assert np.abs(image.values[0, 0].astype(int) - np.asarray(picture.convert("L"))).max() <= 6


def with_strip(file: bytes, strip: bytes) -> bytes:
    """A little-endian TIFF of one strip, with another one."""
    made = bytearray(file + strip)
    (at,) = struct.unpack_from("<I", file, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", file, at)[0], 12):
        (tag,) = struct.unpack_from("<H", file, entry)
        if tag in {273, 279}:  # where it begins, and how long it is
            struct.pack_into("<HII", made, entry + 2, 4, 1, len(file) if tag == 273 else len(strip))
    return bytes(made)


def test_the_jpegs_in_a_tiff_have_the_guards_of_files() -> None:
    whole = save(PillowImage.fromarray(COLOUR), "JPEG", progressive=True)
    scan, end = whole.index(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    many_scans = whole[:scan] + whole[scan:end] * 12 + b"\xff\xd9"
    tiff = save(PillowImage.fromarray(COLOUR), "TIFF", compression="jpeg")

    assert read(with_strip(tiff, save(PillowImage.fromarray(COLOUR), "JPEG", subsampling=0))).shape == (3, 24, 32)
    for strip, complaint in ((many_scans, "scans"), (whole[: scan + 2], "JPEG"), (b"\0" * 50, "JPEG")):
        with pytest.raises(RequestError, match=complaint):
            decode_image(with_strip(tiff, strip), max_pixels=10_000, max_frames=1)
