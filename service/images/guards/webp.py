"""Interpolate a WebP file: RIFF chunks."""

import struct

from service.errors import BrokenImage
from service.images.outline import Outline


def walk(data: bytes) -> Outline:
    """Return the outline of a WebP file and count its frames.

    Raises:
        BrokenImage: It is cut off, or holds no image.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < size + 8:
        raise BrokenImage(f"WEBP: {len(data)} of {size + 8} bytes are there; the file was cut off")
    width = height = None
    frames, position = 0, 12
    while position + 8 <= min(len(data), size + 8):
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if width is None and kind == b"VP8X":
            width, height = (1 + int.from_bytes(data[body + i : body + i + 3], "little") for i in (4, 7))
        elif width is None and kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, body + 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif width is None and kind == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, body + 6))
        frames += kind == b"ANMF"
        position = body + length + (length & 1)
    if width is None:
        raise BrokenImage("WEBP: there is no image in the file")
    return Outline("WEBP", width, height, max(1, frames))
