"""PNG, faster than Pillow and with 16-bit colour: reads 8-bit grey and RGB and 16-bit RGB, writes all answers.

`inspect.py` checks a file first. Without pyspng and isal, Pillow reads the same files and zlib writes them;
`python -m benchmarks.micro codecs` shows the difference.
"""

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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


def read_deep_png(data: bytes) -> NDArray[np.uint16] | None:
    """Read a PNG of 16-bit RGB without transparency: (H, W, 3). None if no installed decoder can.

    Pillow would drop the lower 8 bits.
    """
    if pyspng is None:
        return None
    pixels: NDArray[np.uint16] = pyspng.load(data)
    return pixels[..., :3]  # the fourth channel is an opaque alpha


def read_png(data: bytes, *, width: int, height: int) -> NDArray[np.uint8] | None:
    """Read a PNG of 8-bit grey or RGB without transparency: (H, W) or (H, W, 3). None if Pillow must read it.

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
    planes: Values,
    *,
    dpi: tuple[float, float] | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Write a PNG file, lossless.

    Args:
        planes: Pixels, (C, H, W), uint8 or uint16: grey, grey + alpha, RGB, or RGB + alpha.
        dpi: Pixels per inch, horizontally and vertically.
        icc: Colour profile.
        exif: EXIF data.
    """
    channels, height, width = planes.shape
    depth = planes.dtype.itemsize
    pixels = np.ascontiguousarray(planes[0] if channels == 1 else np.moveaxis(planes, 0, 2))
    step = channels * depth  # bytes of one pixel
    rows = (pixels if depth == 1 else pixels.astype(">u2")).view(np.uint8).reshape(height, width * step)
    filtered = np.empty((height, 1 + width * step), np.uint8)
    filtered[:, 0] = _SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    said: list[bytes] = []
    if icc is not None:
        said += _chunk(b"iCCP", b"ICC Profile\0\0" + _deflated(icc))
    if dpi is not None:
        said += _chunk(b"pHYs", struct.pack(">IIB", *(round(value / METRES_PER_INCH) for value in dpi), 1))
    if exif is not None:
        said += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return b"".join((_start(width, height, 8 * depth, channels), *said, *_chunk(b"IDAT", _deflated(filtered)), _END))


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
