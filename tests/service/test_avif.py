"""AVIF files: read, and refused before decoding where they announce less than they hold."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.errors import BrokenImage, TooManyPixels, UnsupportedImage
from service.images.codec import decode_image
from service.images.guards import av1
from service.images.guards.boxes import Steps
from service.images.image import Image as Decoded
from service.images.inspect import peek
from tests.service.files import announce, save

RAMP = Image.fromarray(np.add.outer(np.arange(40), 3 * np.arange(60)).astype(np.uint8)).convert("RGB")
STILL = save(RAMP, "AVIF", quality=100, subsampling="4:4:4")
SEQUENCE = save(RAMP, "AVIF", save_all=True, append_images=[Image.new("RGB", RAMP.size)] * 3)
FLAT = save(Image.new("RGB", (4096, 2048)), "AVIF", speed=10)  # 8 megapixels in a few hundred bytes


def decode(content: bytes) -> Decoded:
    return decode_image(content, max_pixels=10_000_000, max_frames=3)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def meta(*, kind: bytes = b"av01", stream: bytes = b"", items: int = 1, size: tuple[int, int] = (64, 64)) -> bytes:
    """Write a file whose items all have this kind, this content and this size, in pixels."""
    ids = range(1, items + 1)
    offset = struct.pack(">II", 0, len(stream))
    inside = (
        box(b"pitm", bytes(4) + struct.pack(">H", 1)),
        box(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, items)
            + b"".join(struct.pack(">HHHH", i, 1, 0, 1) + offset for i in ids)),
        box(b"iinf", bytes(4) + struct.pack(">H", items)
            + b"".join(box(b"infe", struct.pack(">IHH4s", 2 << 24, i, 0, kind) + b"\0") for i in ids)),
        box(b"iprp", box(b"ipco", box(b"ispe", bytes(4) + struct.pack(">II", *size)))
            + box(b"ipma", bytes(4) + struct.pack(">I", items) + b"".join(struct.pack(">HBB", i, 1, 1) for i in ids))),
        box(b"idat", stream),
    )  # fmt: skip
    return box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"meta", bytes(4) + b"".join(inside))


def bits(*fields: tuple[int, int]) -> bytes:
    """Pack numbers, each with its count of bits, and fill the last byte."""
    text = "".join(f"{number:0{count}b}" for number, count in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def unit(kind: int, content: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(content)]) + content


def sequence_header(*, timing: bool = False) -> bytes:
    """Write a sequence of 64x32 pixels whose frames may have a size of their own, up to 65536x65536."""
    timed = [(1, 1), (0, 64), (0, 1), (1, 1), (9, 5), (0, 37), (4, 5)]  # a time of 5 bits in each frame
    return bits(
        (0, 5), *(timed if timing else [(0, 1)]), (0, 1), (0, 5), (0, 12), (8, 5), (0, 1),
        *([(0, 1)] if timing else []),
        (15, 4), (15, 4), (63, 16), (31, 16), (0, 1), (0, 3), (0, 4), (1, 1), (0, 2), (1, 1), (1, 1),
    )  # fmt: skip


def frame(*, own_size: bool, timing: bool = False) -> bytes:
    return bits((0, 1), (0, 2), (1, 1), *([(31, 5)] if timing else []), (0, 1), (1, 1), (0, 1), (own_size, 1), (0, 32))


def test_colour_grey_and_transparency_are_read() -> None:
    clear = RAMP.copy()
    clear.putalpha(Image.fromarray(np.full((40, 60), 100, np.uint8)))

    colour, grey, alpha = (decode(save(picture, "AVIF")) for picture in (RAMP, RAMP.convert("L"), clear))

    assert (colour.channels, grey.channels, alpha.channels) == (3, 1, 3)
    assert alpha.alpha is not None
    assert abs(int(alpha.alpha.mean()) - 100) <= 2  # AVIF is lossy
    assert np.abs(decode(STILL).values[0, 0].astype(int) - np.asarray(RAMP)[..., 0]).max() <= 4  # at its best quality


@pytest.mark.parametrize(("orientation", "size"), [(3, (40, 60)), (6, (60, 40)), (5, (60, 40))])
def test_boxes_of_rotation_and_mirroring_are_applied(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation  # Pillow writes it as boxes irot and imir

    assert decode(save(RAMP, "AVIF", exif=exif)).size == size


def test_the_answer_to_an_avif_is_a_jpeg(client: TestClient) -> None:
    assert client.post("/denoise", content=STILL).headers["content-type"] == "image/jpeg"


def test_of_a_sequence_the_still_picture_is_read() -> None:
    assert SEQUENCE[8:12] == b"avis"
    assert np.abs(decode(SEQUENCE).values.astype(int) - decode(save(RAMP, "AVIF")).values).max() <= 30  # not the black


@pytest.mark.parametrize("brand", [b"mif1", b"msf1", b"avis"])
def test_the_brand_may_be_one_of_heif_if_avif_is_among_the_compatible_ones(brand: bytes) -> None:
    assert decode(STILL[:8] + brand + STILL[12:]).size == (40, 60)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (4096, 16)])
def test_a_frame_larger_than_announced_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImage, match=rf"announces {size[0]}x{size[1]}, but .* have 8388608 pixels"):
        decode(announce(FLAT, *size))


def test_a_size_far_above_the_frame_is_refused() -> None:
    with pytest.raises(TooManyPixels, match="65535x65535"):
        decode(announce(STILL, 65_535, 65_535))


@pytest.mark.parametrize("size", [(0, 40), (60, 0)])
def test_a_size_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImage):
        decode(announce(STILL, *size))


@pytest.mark.parametrize(
    ("announced", "change"),
    [
        ("a box of 0 bytes, nested", lambda data: data.replace(b"\0\0\0\x14ispe", b"\0\0\0\0ispe")),
        ("a wide size that is 0", lambda data: data.replace(b"\0\0\0\x14ispe", b"\0\0\0\1ispe")),
        ("a box smaller than its head", lambda data: data.replace(b"\0\0\0\x14ispe", b"\0\0\0\4ispe")),
        ("a box larger than the file", lambda data: data.replace(b"\0\0\0\x14ispe", b"\x7f\0\0\x14ispe")),
        ("a box of 4 GiB", lambda data: data.replace(b"\0\0\0\x14ispe", b"\xff\xff\xff\xffispe")),
        ("no size", lambda data: data.replace(b"ispe", b"free")),
        ("no picture", lambda data: data.replace(b"pitm", b"free")),
        ("no boxes", lambda data: data.replace(b"meta", b"free")),
        ("no data", lambda data: data[: data.index(b"mdat") + 4]),
        ("no properties", lambda data: data.replace(b"ipco", b"free")),
    ],
)  # fmt: skip
def test_damaged_boxes_are_refused(announced: str, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises((BrokenImage, UnsupportedImage)):  # the second one where libavif alone refuses it
        decode(change(STILL))
    assert peek(change(STILL)).kind == "AVIF", announced


def test_a_picture_with_two_sizes_is_refused() -> None:
    other = box(b"ispe", bytes(4) + struct.pack(">II", 10, 10))
    content = meta().replace(
        box(b"ispe", bytes(4) + struct.pack(">II", 64, 64)), box(b"ispe", bytes(4) + struct.pack(">II", 64, 64)) + other
    )
    content = content.replace(struct.pack(">HBB", 1, 1, 1), struct.pack(">HBBB", 1, 2, 1, 2))

    with pytest.raises(BrokenImage):
        decode(content)


def test_a_grid_larger_than_announced_is_refused() -> None:
    grid = struct.pack(">BBBBII", 0, 1, 0, 0, 16_384, 16_384)

    with pytest.raises(BrokenImage, match="have 268435456 pixels"):
        decode(meta(kind=b"grid", stream=grid))


def test_very_many_tiles_that_share_their_data_are_refused() -> None:
    still = STILL[STILL.index(b"mdat") + 4 :]

    with pytest.raises(BrokenImage, match="larger than the file"):
        decode(meta(stream=still, items=500))
    with pytest.raises(BrokenImage, match="more than 100000 boxes"):
        decode(meta(stream=b"\x0a\0", items=9_000))
    small = unit(1, sequence_header()) + unit(6, frame(own_size=False))
    with pytest.raises(BrokenImage, match="have 8192000 pixels"):
        decode(meta(stream=small, items=2_000))


def test_tables_that_claim_many_entries_are_refused() -> None:
    content = meta()
    at = content.index(b"ipma") + 8

    with pytest.raises(BrokenImage, match="ends before"):
        decode(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])


@pytest.mark.parametrize("timing", [False, True])
def test_a_frame_with_a_size_of_its_own_counts_as_the_largest_that_it_can_have(timing: bool) -> None:
    usual, own = (
        unit(1, sequence_header(timing=timing)) + unit(3, frame(own_size=size, timing=timing)) for size in (False, True)
    )

    assert av1.frame_pixels(memoryview(usual), Steps(10, "AVIF")) == 64 * 32
    assert av1.frame_pixels(memoryview(own), Steps(10, "AVIF")) == 2**32
    with pytest.raises(BrokenImage, match="4294967296 pixels"):
        decode(meta(stream=own))


def test_hidden_frames_count_each() -> None:
    stream = unit(1, sequence_header()) + unit(6, frame(own_size=False)) * 40

    assert av1.frame_pixels(memoryview(stream), Steps(100, "AVIF")) == 40 * 64 * 32
    with pytest.raises(BrokenImage, match="more than 30"):
        av1.frame_pixels(memoryview(stream), Steps(30, "AVIF"))


@pytest.mark.parametrize(
    "stream", [b"\x0a", b"\x0a\x05\0", b"\x0a" + b"\xff" * 9, b"\x32\x01\0", unit(1, b"\0"), unit(1, b"\0\1")]
)
def test_damaged_av1_data_is_refused(stream: bytes) -> None:
    with pytest.raises(BrokenImage):
        decode(meta(stream=stream))
