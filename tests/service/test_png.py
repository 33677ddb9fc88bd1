"""The fast lane for PNG gives what Pillow gives, with and without its two packages."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.errors import BrokenImage
from service.images import png
from service.images.codec import decode_image
from service.images.inspect import check_data, inspect
from tests.service.files import hand_png, png_chunk

Bytes = NDArray[np.uint8]
SIDES = array_shapes(min_dims=2, max_dims=2, max_side=40)
PLANES = st.tuples(st.sampled_from([1, 2, 3, 4]), SIDES).flatmap(
    lambda shape: arrays(np.uint8, (shape[0], *shape[1]), elements=st.integers(0, 255))
)


def by_pillow(file: bytes) -> NDArray[np.uint8 | np.uint16]:
    values = np.asarray(PillowImage.open(io.BytesIO(file)))
    return values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)


@given(PLANES)
@settings(deadline=None)
def test_what_is_written_is_read_back_by_pillow(planes: Bytes) -> None:
    assert np.array_equal(by_pillow(png.write_png(planes)), planes)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (28, 28), (300, 500)])
def test_sixteen_bit_grey_is_written_exactly(shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).integers(0, 2**16, (1, *shape), np.uint16)

    assert np.array_equal(by_pillow(png.write_png(planes)), planes)


def test_every_thread_writes_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 2, (1, side, side), np.uint8) for side in range(3, 12)]

    def write() -> list[bytes]:
        rng.bytes(300_000)  # memory that the writer may find again
        return [png.write_png(image) for image in images]

    first = write()
    with ThreadPoolExecutor(12) as threads:
        assert all(files == first for files in threads.map(lambda _: write(), range(400)))


def test_without_isal_zlib_writes_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.images.png.zlib", zlib)
    planes = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)

    assert np.array_equal(by_pillow(png.write_png(planes)), planes)


def filtered_png(pixels: Bytes, filter_types: Bytes) -> bytes:
    """Rows under any of the five filters, by the words of the PNG specification."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels).astype(int)
    data = b""
    for y, kind in enumerate(filter_types):
        left = np.concatenate([np.zeros(channels, int), rows[y, :-channels]])
        up = rows[y - 1] if y else np.zeros(width * channels, int)
        corner = np.concatenate([np.zeros(channels, int), up[:-channels]])
        distances = np.abs([up - corner, left - corner, left + up - 2 * corner])  # to left, up, corner
        paeth = np.choose(np.argmin(distances, axis=0), [left, up, corner])
        predicted = [0 * up, left, up, (left + up) // 2, paeth][kind]
        data += bytes([kind]) + ((rows[y] - predicted) % 256).astype(np.uint8).tobytes()
    return hand_png(width, height, data, colour={1: 0, 3: 2}[channels])


@given(st.data())
@settings(deadline=None)
def test_plain_files_are_read_as_pillow_reads_them_under_every_filter(data: st.DataObject) -> None:
    height, width = data.draw(SIDES)
    channels = data.draw(st.sampled_from([1, 3]))
    pixels = data.draw(arrays(np.uint8, (height, width, channels), elements=st.integers(0, 255)))
    file = filtered_png(pixels, data.draw(arrays(np.uint8, height, elements=st.integers(0, 4))))

    assert inspect(file, max_pixels=10_000, max_frames=1).is_plain
    read = decode_image(file, max_pixels=10_000, max_frames=1).values[0]

    assert np.array_equal(read, np.moveaxis(pixels, 2, 0))
    assert np.array_equal(read, by_pillow(file))


@pytest.mark.skipif(find_spec("pyspng") is None, reason="pyspng has no wheel for this machine")
def test_a_plain_file_takes_the_fast_lane_and_a_large_one_does_not_hold_up_the_others() -> None:
    file = filtered_png(np.zeros((2, 3, 1), np.uint8), np.zeros(2, np.uint8))

    assert png.read_png(file, width=3, height=2) is not None
    assert png.read_png(file, width=3000, height=2000) is None


def test_without_pyspng_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.images.png.pyspng", None)
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    file = filtered_png(pixels, np.array([0, 1, 2, 3], np.uint8))

    assert np.array_equal(decode_image(file, max_pixels=100, max_frames=1).values[0], np.moveaxis(pixels, 2, 0))


def test_data_in_one_chunk_is_checked_in_parts_of_which_none_is_copied_often(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000), np.uint8)
    noise[:, 0] = 0  # filter types
    file = hand_png(2999, 3000, noise.tobytes(), colour=0)
    outline, given = inspect(file, max_pixels=10**7, max_frames=1), list[int]()

    class Inflater:
        def __init__(self) -> None:
            self.own = zlib.decompressobj()

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self.own.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self.own, name)

    monkeypatch.setattr("service.images.guards.png.zlib.decompressobj", Inflater)
    check_data(outline)

    assert len(outline.png_data) == 1
    assert sum(given) < 2 * len(file)  # each step copies what it has not consumed


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "I;16"])
def test_other_modes_are_not_plain(mode: str) -> None:
    file = io.BytesIO()
    PillowImage.new(mode, (5, 4)).save(file, "PNG")

    assert not inspect(file.getvalue(), max_pixels=100, max_frames=1).is_plain


def test_a_file_with_an_orientation_is_not_plain() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    file = io.BytesIO()
    PillowImage.new("L", (5, 4)).save(file, "PNG", exif=exif)

    assert not inspect(file.getvalue(), max_pixels=100, max_frames=1).is_plain
    assert decode_image(file.getvalue(), max_pixels=100, max_frames=1).size == (5, 4)  # height, width


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (zlib.compress(b"\0" * 7), "ends after 7 of 20 bytes"),
        (b"no deflate stream", "does not inflate"),
        (zlib.compress(b"\0" * 20)[:-6], "ends after"),
    ],
)
def test_a_damaged_plain_file_is_refused_with_the_reason(stream: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode_image(grey_4x4(stream), max_pixels=100, max_frames=1)


def test_a_plain_file_whose_pixels_are_all_there_is_read_whatever_follows_them() -> None:
    """As in every viewer. Damage on the way is seen by the checksums of the chunks."""
    stream = zlib.compress(b"\0" + bytes(range(4)) + b"\0" * 15)[:-1] + b"!"  # a wrong checksum of the data

    image = decode_image(grey_4x4(stream), max_pixels=100, max_frames=1)

    assert image.values[0, 0, 0].tolist() == [0, 1, 2, 3]


def grey_4x4(stream: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", stream) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks
