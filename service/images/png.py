"""PNG, faster than Pillow and with 16-bit colour: reads small files of 8-bit grey and RGB, writes all answers.

`inspect.py` checks a file first. Without pyspng and isal, Pillow reads the same files and zlib writes them;
`python -m benchmarks.micro codecs` shows the difference.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from service.images.blocks import blocks
from service.images.deflate import zlib
from service.images.guards.png import METRES_PER_INCH, SIGNATURE
from service.images.image import Values

try:
    import pyspng
except ImportError:  # it has no wheel for this machine
    pyspng = None

# The decoder holds the GIL, so health checks wait for it: 1 Mpx takes about 20 ms.
_MAX_PIXELS = 1_000_000
_NUMBER = struct.Struct(">I")
_COLOUR_BY_CHANNELS = {1: 0, 2: 4, 3: 2, 4: 6}
_SUB = 1  # filter type: the difference to the pixel on the left
_FASTEST = 1  # levels are 0 to 3 in isal and 0 to 9 in zlib; 0 gives larger files in isal and no compression in zlib


def read_png(data: bytes, *, width: int, height: int) -> NDArray[np.uint8] | None:
    """Read a PNG of 8-bit grey or RGB without transparency: (H, W) or (H, W, 3). None if Pillow must read it.

    The data is inflated once, here: a file that ends too early is refused by the decoder.

    Args:
        data: A file whose outline is plain, see `Outline.is_plain`.
        width: Width from the outline, in pixels.
        height: Height from the outline, in pixels.
    """
    if pyspng is None or width * height > _MAX_PIXELS:
        return None
    try:
        pixels: NDArray[np.uint8] = pyspng.load(data)
    except RuntimeError:  # Pillow may still read it, or reports the fault
        return None
    return pixels


def write_png(
    planes: Values | Sequence[Values],
    *,
    dpi: tuple[float, float] | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Write a PNG file, lossless, block by block.

    Args:
        planes: Pixels, (C, H, W), or a plane (H, W) for each channel: grey, grey + alpha, RGB, or RGB + alpha, of
            uint8 or uint16.
        dpi: Pixels per inch, horizontally and vertically.
        icc: Colour profile.
        exif: EXIF data.
    """
    height, width = planes[0].shape
    parts = [_start(width, height, 8 * planes[0].dtype.itemsize, len(planes))]
    if icc is not None:
        parts += _chunk(b"iCCP", b"ICC Profile\0\0" + _deflated(icc))
    if dpi is not None:
        parts += _chunk(b"pHYs", struct.pack(">IIB", *(round(value / METRES_PER_INCH) for value in dpi), 1))
    if exif is not None:
        parts += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    writer = zlib.compressobj(_FASTEST)
    for rows, columns in blocks(height, width):
        data = writer.compress(_filtered(planes, rows, columns))
        if (rows.stop, columns.stop) == (height, width):
            data += writer.flush()
        if data:
            parts += _chunk(b"IDAT", data)
    return b"".join((*parts, _END))


def _filtered(planes: Values | Sequence[Values], rows: slice, columns: slice) -> NDArray[np.uint8]:
    """Return rows as bytes, each as differences to the pixel on the left behind the type of the filter."""
    is_start, depth = columns.start == 0, planes[0].dtype.itemsize
    seen = slice(max(0, columns.start - 1), columns.stop)  # of a part of a row, the pixel before it, too
    pixels = np.stack([plane[rows, seen] for plane in planes], axis=-1)
    step, height = len(planes) * depth, len(pixels)  # bytes of one pixel
    values = (pixels if depth == 1 else pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    first = 1 + step if is_start else 0
    filtered = np.empty((height, first + values.shape[1] - step), np.uint8)
    if is_start:
        filtered[:, 0] = _SUB
        filtered[:, 1:first] = values[:, :step]
    np.subtract(values[:, step:], values[:, :-step], out=filtered[:, first:])
    return filtered


def _deflated(data: bytes | NDArray[np.uint8]) -> bytes:
    writer = zlib.compressobj(_FASTEST)  # isal's `compress` gives different bytes in different threads
    return writer.compress(data) + writer.flush()


@lru_cache(maxsize=64)
def _start(width: int, height: int, bits: int, channels: int) -> bytes:
    colour = _COLOUR_BY_CHANNELS[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join((SIGNATURE, *_chunk(b"IHDR", header)))


def _chunk(kind: bytes, body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return _NUMBER.pack(len(body)), kind, body, _NUMBER.pack(zlib.crc32(body, zlib.crc32(kind)))


_END = b"".join(_chunk(b"IEND", b""))
