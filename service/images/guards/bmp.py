"""Read the size of a BMP file."""

import struct

from service.images.outline import Outline


def walk(data: bytes) -> Outline:
    """Return the outline of a BMP file."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Outline("BMP", abs(width), abs(height))
