"""Files made to break a decoder: each is refused with a clear 4xx, quickly and without leaving anything behind."""

import contextlib
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from benchmarks.reliability.bodies import bmp_of_runs
from service.errors import (
    BrokenImage,
    RequestError,
    TooManyImages,
    TooManyPixels,
    UnsupportedImage,
    UnsupportedMediaType,
)
from service.images.codec import decode_image
from service.images.guards import bmp, tiff
from service.images.image import Image as Decoded
from service.images.inspect import peek
from tests.service.files import hand_png, png, png_chunk, save

PHOTO = Image.fromarray(np.random.default_rng(3).integers(0, 256, (24, 20, 3), np.uint8))
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]


def decode(content: bytes, *, max_pixels: int = 1_000_000) -> Decoded:
    return decode_image(content, max_pixels=max_pixels, max_frames=3)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_was_cut_off_is_refused(kind: str, share: float) -> None:
    content = save(PHOTO, kind)
    magic = 12  # with less than its magic bytes a file is of no format

    with pytest.raises(BrokenImage):
        decode(content[: max(magic, int(len(content) * share))])


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_file_in_one_piece_is_read(kind: str) -> None:
    assert decode(save(PHOTO, kind)).size == (24, 20)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_an_image_or_a_clear_refusal(kind: str, data: st.DataObject) -> None:
    content = bytearray(save(PHOTO, kind))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))

    with contextlib.suppress(RequestError):  # anything else fails the test
        decode(bytes(content))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF89a", b"BM", b"II*\0", b"MM\0+"]
        + [b"\0\0\0\x10ftyp" + brand for brand in (b"avif", b"heic")]
    ),
    st.binary(),
)
def test_magic_bytes_and_rubbish_are_a_clear_refusal(magic: bytes, rubbish: bytes) -> None:
    with pytest.raises(RequestError):
        decode(magic + rubbish)


def test_an_empty_or_foreign_file_is_an_unsupported_type() -> None:
    for content in (b"", b"\x89PN", b"%PDF-1.7", b"\0\0\0\x0cjP  \r\n\x87\n", b"<svg/>"):
        with pytest.raises(RequestError) as caught:
            decode(content)
        assert caught.value.status == 415


HEADER_BOMBS = {
    # 9000 x 9000 by header only; the WebP is 34 bytes and would cost a gigabyte on opening.
    "png": hand_png(9000, 9000, b""),
    "webp": b"RIFF"
    + struct.pack("<I", 26)
    + b"WEBPVP8L"
    + struct.pack("<IBI", 13, 0x2F, 8999 | 8999 << 14)
    + b"\0" * 9,
    "webp extended": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8X"
    + struct.pack("<II", 10, 0)
    + (8999).to_bytes(3, "little") * 2,
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 9000, 9000, 0, 0, 0)
    + b",\0\0\0\0"
    + struct.pack("<HHB", 9000, 9000, 0)
    + b"\x08\0;",
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 9000, -9000, 1, 24, 0, 4, 0, 0, 0, 0) + b"\0" * 4,
    "jpeg": b"\xff\xd8\xff\xc0\0\x0b\x08"
    + struct.pack(">HH", 9000, 9000)
    + b"\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0\0\xff\xd9",
}


@pytest.mark.parametrize("name", HEADER_BOMBS)
def test_a_small_file_with_a_huge_header_is_refused_before_decoding(name: str) -> None:
    with pytest.raises(TooManyPixels, match="9000x9000"):
        decode(HEADER_BOMBS[name], max_pixels=25_000_000)


def test_a_tiff_with_a_huge_header_is_refused_before_decoding() -> None:
    entries = [(256, 9000), (257, 9000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 9000), (279, 4)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in entries)

    with pytest.raises(TooManyPixels, match="9000x9000"):
        decode(b"II*\0" + struct.pack("<I", 12) + b"\0" * 4 + directory + b"\0" * 4, max_pixels=25_000_000)


def test_a_gif_frame_larger_than_its_screen_counts_as_its_own_size() -> None:
    content = (
        b"GIF89a"
        + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
        + b",\0\0\0\0"
        + struct.pack("<HHB", 9000, 9000, 0)
        + b"\x08\0;"
    )

    with pytest.raises(TooManyPixels):
        decode(content, max_pixels=25_000_000)


def test_a_tiff_whose_pages_run_in_a_circle_is_refused() -> None:
    directory = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 4) + struct.pack("<I", 8)  # next page: itself

    with pytest.raises(BrokenImage, match="cycle"):
        decode(b"II*\0" + struct.pack("<I", 8) + directory)


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1, 2**62])
def test_a_big_tiff_that_points_out_of_this_world_is_refused(offset: int) -> None:
    with pytest.raises(BrokenImage):
        decode(b"II+\0\x08\0\0\0" + struct.pack("<Q", offset) + b"\0" * 100)


def test_a_png_with_half_a_header_is_refused() -> None:
    with pytest.raises(BrokenImage, match="points past the end"):
        decode(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBB", 4, 4, 8, 0)) + png_chunk(b"IEND", b""))


def test_a_wrong_png_checksum_is_refused() -> None:
    content = bytearray(png(np.zeros((4, 4), np.uint8)))
    content[content.index(b"IDAT") + 6] ^= 1

    with pytest.raises(BrokenImage, match="'IDAT' has a wrong checksum"):
        decode(bytes(content))


def test_a_png_whose_data_end_early_is_refused() -> None:
    assert decode(hand_png(4, 4, bytes(5 * 4))).size == (4, 4)
    with pytest.raises(BrokenImage, match="ends after 5 of 20 bytes"):
        decode(hand_png(4, 4, bytes(5)))


def test_an_interlaced_png_is_measured_pass_by_pass() -> None:
    # Adam7 on 3x3 (columns x rows): 1x1, none, none, 1x1, 2x1, 1x2, 3x1; every row has a filter byte before it.
    whole = bytes(2 + 0 + 0 + 2 + 3 + 2 * 2 + 4)

    assert decode(hand_png(3, 3, whole, interlace=1)).size == (3, 3)
    with pytest.raises(BrokenImage, match="of 15 bytes"):
        decode(hand_png(3, 3, whole[:-1], interlace=1))


def test_a_png_that_inflates_without_end_costs_no_more_than_its_size() -> None:
    inside = bytes(100_000_000)
    bomb = hand_png(4, 4, inside)

    started = time.thread_time()
    assert decode(bomb).size == (4, 4)
    decoded = time.thread_time()
    zlib.decompress(zlib.compress(inside, 1))

    assert decoded - started < (time.thread_time() - decoded) / 10


def test_png_text_that_inflates_without_end_is_refused() -> None:
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    content = png(np.zeros((4, 4), np.uint8))
    at = content.index(b"IDAT") - 4

    with pytest.raises(BrokenImage):
        decode(content[:at] + bomb + content[at:])


@pytest.mark.parametrize(("depth", "colour"), [(16, 4), (16, 6)])
def test_a_png_that_would_lose_its_lower_bits_is_refused(depth: int, colour: int) -> None:
    channels = {4: 2, 6: 4}[colour]

    with pytest.raises(UnsupportedImage, match="lose the lower 8"):
        decode(hand_png(2, 2, bytes(2 * (1 + 2 * channels * 2)), depth=depth, colour=colour))


def test_a_tiff_of_32_bits_is_refused_with_the_cure() -> None:
    with pytest.raises(UnsupportedImage, match="NPY array"):
        decode(save(Image.new("I", (4, 4), 70_000), "TIFF"))


def test_a_tiff_of_32_bit_colour_is_refused_with_the_cure() -> None:
    content = save(PHOTO, "TIFF").replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 32, 32, 32))

    with pytest.raises(UnsupportedImage, match=r"cannot be read; send 8 bits, .* or an NPY array"):
        decode(content)


@pytest.mark.parametrize("brand", [b"mif1", b"isom"])
def test_a_video_is_refused_with_the_cure(brand: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="video file; send single frames"):
        decode(struct.pack(">I", 24) + b"ftyp" + brand + bytes(100))


def test_a_tiff_whose_codec_has_no_guard_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="compression 'lzma'"):
        decode(save(PHOTO, "TIFF", compression="lzma"))


def scan_bomb(scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    content = save(PHOTO, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]


def test_a_jpeg_of_1500_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = scan_bomb(1500)
    monkeypatch.delattr(ImageFile.ImageFile, "load")

    with pytest.raises(BrokenImage, match="scans"):
        decode(bomb)


def test_an_ordinary_progressive_jpeg_is_read() -> None:
    assert decode(save(PHOTO, "JPEG", progressive=True, quality=95)).size == (24, 20)


def test_scan_markers_inside_a_thumbnail_do_not_count() -> None:
    content = save(PHOTO, "JPEG")
    thumbnail = b"\xff\xe9" + struct.pack(">H", 2 + 3000) + b"\xff\xda\0" * 1000

    assert decode(content[:2] + thumbnail + content[2:]).size == (24, 20)


def test_more_pages_than_allowed_are_refused() -> None:
    pages = [Image.new("RGB", (4, 4), (i * 20, 0, 0)) for i in range(5)]

    assert decode(save(pages[0], "TIFF", save_all=True, append_images=pages[1:3])).size == (4, 4)
    with pytest.raises(TooManyImages, match="5 pages"):
        decode(save(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


@pytest.mark.parametrize("content", [hand_png(0, 4, b""), hand_png(4, 0, b"")])
def test_an_image_without_pixels_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenImage, match="no pixels"):
        decode(content)


def test_a_polyglot_is_read_as_what_its_first_bytes_say() -> None:
    content = png(np.full((2, 2), 7, np.uint8)) + b"PK\x03\x04<script>" + b"\0" * 100

    assert decode(content).values.tolist() == [[[[7, 7], [7, 7]]]]


def test_refused_files_leave_no_open_descriptors() -> None:
    bad = [save(PHOTO, kind)[:60] for kind in FORMATS] + list(HEADER_BOMBS.values())
    before = len(list(Path("/proc/self/fd").iterdir()))

    for content in bad * 5:
        with pytest.raises(RequestError):
            decode(content, max_pixels=1000)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _gif_of_tiny_blocks() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b"\x21\xfe" + b"\1a" * 500_000 + b"\0;"


def _webp_of_tiny_chunks() -> bytes:
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(10) + (b"JUNK" + bytes(4)) * 200_000
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


SLOW_TO_WALK = {
    "JPEG of markers": b"\xff\xd8" + b"\xff\x01" * 500_000,
    "JPEG of tiny segments": b"\xff\xd8" + b"\xff\xfe\0\2" * 500_000,
    "GIF of tiny blocks": _gif_of_tiny_blocks(),
    "WebP of tiny chunks": _webp_of_tiny_chunks(),
}


@pytest.mark.parametrize("name", SLOW_TO_WALK)
def test_files_of_very_many_parts_are_refused_after_some(name: str) -> None:
    with pytest.raises(BrokenImage, match="more than"):
        decode_image(SLOW_TO_WALK[name], max_pixels=10**6, max_frames=10)


@pytest.mark.parametrize("data", [b"\xff" * 2**22, b"\xff\0" * 2**21, b"\xff" * 2**22 + b"\0"], ids=range(3))
def test_a_jpeg_without_markers_is_searched_once(data: bytes) -> None:
    assert peek(b"\xff\xd8" + data).pixels is None
    with pytest.raises(BrokenImage, match="no marker"):
        decode_image(b"\xff\xd8" + data, max_pixels=10**6, max_frames=10)


def test_a_jpeg_with_millions_of_fill_bytes_is_read_in_one_step() -> None:
    data = save(Image.new("L", (4, 4), 100), "JPEG")

    image = decode_image(data[:2] + b"\xff" * 3_000_000 + data[2:], max_pixels=10**6, max_frames=10)

    assert image.size == (4, 4)


def tiff_with_numbers(count: int, *, is_exif: bool = False) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if is_exif:
        tags[0x8769] = {0x9C9B: tuple(range(count))}
    else:
        tags.tagtype[65_000] = 3
        tags[65_000] = tuple(range(count))
    return save(Image.new("L", (4, 4)), "TIFF", tiffinfo=tags)


@pytest.mark.parametrize("is_exif", [False, True])
def test_a_tiff_with_more_numbers_in_its_tags_than_any_encoder_writes_is_refused(
    monkeypatch: pytest.MonkeyPatch, is_exif: bool
) -> None:
    monkeypatch.setattr(tiff, "MAX_NUMBERS", 1000)

    assert decode(tiff_with_numbers(900, is_exif=is_exif)).size == (4, 4)
    with pytest.raises(BrokenImage, match="more than 1000 numbers"):
        decode(tiff_with_numbers(1001, is_exif=is_exif))


@pytest.mark.parametrize("head", [b"II*\0" + struct.pack("<I", 8), b"II+\0" + struct.pack("<HHQ", 8, 0, 16)])
def test_a_tiff_of_very_many_tags_is_refused(head: bytes) -> None:
    with pytest.raises(BrokenImage, match="more than 4096 tags"):
        decode(head + struct.pack("<Q", 60_000) + bytes(2**20))


def test_a_large_bmp_of_run_lengths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(bmp_of_runs(4, 3)).size == (3, 4)
    monkeypatch.setattr(bmp, "MAX_RUN_LENGTH_BYTES", 1000)

    with pytest.raises(UnsupportedImage, match="uncompressed"):
        decode(bmp_of_runs(4, 3))


def test_a_jpeg_of_many_megabytes_beside_its_picture_is_refused() -> None:
    data = save(Image.new("L", (4, 4)), "JPEG")
    segment = b"\xff\xed" + struct.pack(">H", 60_002) + bytes(60_000)

    assert decode(data[:2] + segment * 100 + data[2:]).size == (4, 4)
    with pytest.raises(BrokenImage, match="16 MiB of segments"):
        decode(data[:2] + segment * 300 + data[2:])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_data_larger_than_any_camera_writes_are_ignored(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "x" * 2**20
    exif[0x0112] = 6

    image = decode(save(Image.new("L", (4, 2)), kind, exif=exif.tobytes()))

    assert image.size == (2, 4)
    assert image.exif is None


def test_an_avif_with_exif_data_larger_than_any_camera_writes_is_refused() -> None:
    exif = Image.Exif()
    exif[0x010F] = "x" * 2**20

    with pytest.raises(BrokenImage, match="EXIF"):
        decode(save(Image.new("RGB", (4, 2)), "AVIF", exif=exif.tobytes()))
