"""Read the size of a BMP file."""

import struct

from service.images.header import Header
from service.images.outline import Outline

_HEAD_BYTES = 26


def peek(data: bytes) -> Header:
    """Read the bitmap header."""
    return Header("BMP", *_size(data)) if len(data) >= _HEAD_BYTES else Header("BMP")


def walk(data: bytes) -> Outline:
    """Check a BMP file and return its outline."""
    return Outline("BMP", *_size(data))


def _size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)
