"""Read the size of a BMP file."""

import struct

from service.errors import UnsupportedImage
from service.images.header import Header
from service.images.outline import Outline

# Pillow decodes run lengths in Python, 0.2 us a byte: 47 MB of them, for 24 megapixels, took 9 s.
MAX_RUN_LENGTH_BYTES = 2**22
_HEAD_BYTES = 26
_CORE_HEADER, _RUN_LENGTHS = 12, {1, 2}  # the header of OS/2, without a compression; and the compressions RLE8 and RLE4


def peek(data: bytes) -> Header:
    """Read the bitmap header."""
    return Header("BMP", *_size(data)) if len(data) >= _HEAD_BYTES else Header("BMP")


def walk(data: bytes) -> Outline:
    """Check a BMP file and return its outline.

    Raises:
        UnsupportedImage: It is large and compressed.
    """
    (header,) = struct.unpack_from("<I", data, 14)
    is_compressed = header != _CORE_HEADER and struct.unpack_from("<I", data, 30)[0] in _RUN_LENGTHS
    if is_compressed and len(data) > MAX_RUN_LENGTH_BYTES:
        raise UnsupportedImage(
            f"BMP: it is compressed and has {len(data)} bytes, the limit is {MAX_RUN_LENGTH_BYTES}; send it "
            "uncompressed, or as PNG"
        )
    return Outline("BMP", *_size(data))


def _size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == _CORE_HEADER else "<ii", data, 18)
    return abs(width), abs(height)
