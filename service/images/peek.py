"""What the head of an image file or array says, in a bounded number of steps: for the queue, before anything is read.

What it says is checked when the file is read; a file without a size in its head gets none.
"""

import re
import struct
from dataclasses import dataclass

_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}  # a palette may have an alpha
_NPY_SHAPE = re.compile(rb"['\"]shape['\"]\s*:\s*\(\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)")
_NPY_HEAD_BYTES = 1024
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MOST_STEPS = 1000  # a photograph has some twenty segments before its frame


@dataclass(frozen=True)
class Head:
    """What a file says of itself. Of several images in an array, the rows are counted."""

    height: int
    width: int
    channels: int
    rows: int = 1

    @property
    def pixels(self) -> int:
        """Of all rows."""
        return self.rows * self.height * self.width


def peek(data: bytes) -> Head | None:
    """The head of a file, or None where it has no size that can be read."""
    try:
        for magic, read in _READERS:
            if data.startswith(magic):
                return read(data)
    except (struct.error, IndexError, ValueError):  # it is cut off, and reading it will say so
        return None
    return None


def _png(data: bytes) -> Head:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return Head(height, width, _PNG_CHANNELS.get(colour, 4) * (2 if depth == 16 else 1))


def _npy(data: bytes) -> Head | None:
    shapes = _NPY_SHAPE.findall(data, 0, _NPY_HEAD_BYTES)
    if len(shapes) != 1:  # none, or one of them lies
        return None
    shape = [int(axis) for axis in shapes[0].split(b",")]
    rows, channels, height, width = [1, 1, 1, 1, *shape][-4:]
    return Head(height, width, channels * 4, rows)


def _jpeg(data: bytes) -> Head | None:
    position = 2
    for _ in range(_MOST_STEPS):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack_from(">HHB", data, position + 5)
            return Head(height, width, channels)
        is_alone = marker in {0x01, 0xFF} or 0xD0 <= marker <= 0xD8
        if marker == 0xFF:
            position += 1
        else:
            position += 2 if is_alone else 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _webp(data: bytes) -> Head | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return Head(height, width, 4)


def _gif(data: bytes) -> Head:
    width, height = struct.unpack_from("<HH", data, 6)
    return Head(height, width, 4)


def _bmp(data: bytes) -> Head:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Head(abs(height), abs(width), 4)


def _tiff(data: bytes) -> Head | None:
    order = "<" if data.startswith(b"II") else ">"
    (offset,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, offset)
    side_by_tag = {}
    for at in range(offset + 2, offset + 2 + 12 * min(count, _MOST_STEPS), 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in {256, 257}:
            (side_by_tag[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)
    if len(side_by_tag) < 2:
        return None
    return Head(side_by_tag[257], side_by_tag[256], 8)


_READERS = (
    (_PNG, _png),
    (_NPY, _npy),
    (b"\xff\xd8\xff", _jpeg),
    (b"RIFF", _webp),
    (b"GIF8", _gif),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
)
