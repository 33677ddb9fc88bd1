"""Walk a WebP file: RIFF chunks."""

import struct

from service.errors import BrokenImage
from service.images.header import Header
from service.images.outline import Outline

_HEAD_BYTES = 30

MAX_CHUNKS = 10_000  # one for each frame of an animation; each costs a step here


def peek(data: bytes) -> Header:
    """Read the first chunk: VP8X, VP8L or VP8."""
    if len(data) < _HEAD_BYTES:
        return Header("WEBP")
    size = _size(data, data[12:16], 20)
    return Header("WEBP") if size is None else Header("WEBP", *size)


def walk(data: bytes) -> Outline:
    """Check a WebP file, count its frames and return its outline.

    Raises:
        BrokenImage: The file is truncated, has more chunks than any encoder writes, or holds no image.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < size + 8:
        raise BrokenImage(f"WEBP: {len(data)} of {size + 8} bytes; the file is truncated")
    found: tuple[int, int] | None = None
    frames, chunks, position = 0, 0, 12
    while position + 8 <= min(len(data), size + 8):
        kind, length = struct.unpack_from("<4sI", data, position)
        found = found or _size(data, kind, position + 8)
        frames += kind == b"ANMF"
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise BrokenImage(f"WEBP: more than {MAX_CHUNKS} chunks")
        position += 8 + length + (length & 1)
    if found is None:
        raise BrokenImage("WEBP: there is no image in the file")
    return Outline("WEBP", *found, max(1, frames))


def _size(data: bytes, kind: bytes, body: int) -> tuple[int, int] | None:
    """Return width and height if the chunk at this offset has them, else None."""
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[body + i : body + i + 3], "little") for i in (4, 7))
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, body + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, body + 6))
        return width, height
    return None
