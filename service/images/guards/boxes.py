"""Read the boxes of the ISO base media file format (ISO/IEC 14496-12), which AVIF and HEIC files consist of."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import BrokenImage

_HEAD_BYTES = 8  # size and kind
_WIDE, _TO_THE_END = 1, 0  # sizes with another meaning


@dataclass(frozen=True)
class Box:
    """A box of a file: its kind, such as b"meta", and the offsets of its content."""

    kind: bytes
    start: int
    end: int


class Steps:
    """Limits the work on one file: each box, field and unit takes a step. `name` is that of the format, for errors."""

    def __init__(self, most: int, name: str) -> None:
        self._most = self._left = most
        self.name = name

    def take(self, count: int = 1) -> None:
        """Take steps.

        Raises:
            BrokenImage: Fewer are left.
        """
        if self._left < count:
            raise BrokenImage(f"{self.name}: more than {self._most} boxes, fields and units")
        self._left -= count


def boxes_in(data: bytes, start: int, end: int, steps: Steps) -> Iterator[Box]:
    """Yield the boxes between two offsets of a file.

    Raises:
        BrokenImage: A box goes beyond the end, or there are too many.
    """
    position = start
    while position < end:
        steps.take()
        size, kind = struct.unpack_from(">I4s", data, position)
        head = _HEAD_BYTES
        if size == _WIDE:
            (size,), head = struct.unpack_from(">Q", data, position + head), 2 * _HEAD_BYTES
        elif size == _TO_THE_END:
            size = end - position
        if size < head or position + size > end:
            raise BrokenImage(
                f"{steps.name}: a box of {size} bytes at byte {position}; the file is truncated or damaged"
            )
        yield Box(kind, position + head, position + size)
        position += size


class Fields:
    """Reads the big-endian fields of a box, one after another."""

    def __init__(self, data: bytes, box: Box, steps: Steps) -> None:
        self._data, self.position, self._end, self._steps = data, box.start, box.end, steps

    def take(self, size: int) -> int:
        """Read a number of `size` bytes.

        Raises:
            BrokenImage: The box ends before.
        """
        self._steps.take()
        start, self.position = self.position, self.position + size
        if self.position > self._end:
            raise BrokenImage(f"{self._steps.name}: a box ends before its content does")
        return int.from_bytes(self._data[start : self.position], "big")
