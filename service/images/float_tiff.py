"""TIFF files of floats in colour, which Pillow neither reads nor writes.

Pixel by pixel, they have the bytes of floats of grey of three times the width. Only the tags of the first page differ.
"""

import struct
from typing import NamedTuple

from service.errors import UnsupportedImage

_WIDTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANES = 256, 258, 262, 274, 277, 284
_PREDICTOR, _TILE_WIDTH, _FORMAT = 317, 322, 339
_SHORT, _LONG = 3, 4  # kinds of values
_LETTERS = {_SHORT: "H", _LONG: "I"}
_CLASSIC = {b"II*\0": "<", b"MM\0*": ">"}  # how a file begins, and the order of its bytes; not those above 4 GiB
_ENTRY_BYTES, _INLINE_BYTES = 12, 4
_CHANNELS, _FLOAT_BITS, _FLOAT = 3, 32, 3
_GREY, _RGB = 1, 2  # photometric interpretations

TO_ANSWER = {_SAMPLES: 1}  # tags that a file of grey needs for `as_colour`


class _Page(NamedTuple):
    """The first page: the order of bytes, and where the entry of each tag begins."""

    order: str
    at: dict[int, int]

    def values(self, data: bytes, tag: int, default: tuple[int, ...] = (1,)) -> tuple[int, ...]:
        """Return up to three whole numbers of a tag; `default` if it is missing or something else."""
        if tag not in self.at:
            return default
        kind, count, offset = struct.unpack_from(self.order + "HII", data, self.at[tag] + 2)
        if kind not in _LETTERS or not 1 <= count <= _CHANNELS:
            return default
        form = f"{self.order}{count}{_LETTERS[kind]}"
        is_inline = struct.calcsize(form) <= _INLINE_BYTES
        return struct.unpack_from(form, data, self.at[tag] + 8 if is_inline else offset)


def as_grey(data: bytes) -> tuple[bytes, int] | None:
    """Return a TIFF of float32 RGB as one of grey of three times the width; None if it is another TIFF.

    Also return its orientation, which the other file does not have: three values side by side are one pixel.

    Raises:
        UnsupportedImage: Its channels are in separate planes, or stored as differences.
        struct.error: It is truncated.
    """
    page = _first_page(data)
    if page is None or not {_BITS, _FORMAT, _PHOTOMETRIC} <= page.at.keys():
        return None
    found = [page.values(data, tag) for tag in (_SAMPLES, _BITS, _FORMAT)]
    if found != [(_CHANNELS,), (_FLOAT_BITS,) * _CHANNELS, (_FLOAT,) * _CHANNELS]:
        return None
    if page.values(data, _PLANES) != (1,) or page.values(data, _PREDICTOR) != (1,):
        raise UnsupportedImage(
            "TIFF: floats of colour in separate planes, or with a predictor; write them pixel by pixel without one, or "
            "send an NPY array"
        )
    sides = {tag: page.values(data, tag, ())[0] * _CHANNELS for tag in (_WIDTH, _TILE_WIDTH) if tag in page.at}
    if _ORIENTATION in page.at:
        sides[_ORIENTATION] = 1
    one = {_SAMPLES: (1,), _BITS: (_FLOAT_BITS,), _FORMAT: (_FLOAT,), _PHOTOMETRIC: (_GREY,)}
    grey = _with_tags(data, page, {**one, **{tag: (side,) for tag, side in sides.items()}})
    return grey, page.values(data, _ORIENTATION)[0]


def as_colour(data: bytes, width: int) -> bytes:
    """Return a TIFF of floats of grey, with `TO_ANSWER`, as one of RGB of this width: the inverse of `as_grey`."""
    page = _first_page(data)
    assert page is not None  # noqa: S101  Pillow wrote it
    three = {_BITS: (_FLOAT_BITS,) * _CHANNELS, _FORMAT: (_FLOAT,) * _CHANNELS}
    return _with_tags(data, page, {_WIDTH: (width,), _SAMPLES: (_CHANNELS,), _PHOTOMETRIC: (_RGB,), **three})


def _first_page(data: bytes) -> _Page | None:
    order = _CLASSIC.get(data[:4])
    if order is None:
        return None
    (offset,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, offset)
    starts = range(offset + 2, offset + 2 + _ENTRY_BYTES * count, _ENTRY_BYTES)
    return _Page(order, {struct.unpack_from(order + "H", data, start)[0]: start for start in starts})


def _with_tags(data: bytes, page: _Page, values: dict[int, tuple[int, ...]]) -> bytes:
    changed = bytearray(data)
    for tag, numbers in values.items():
        kind = _LONG if tag in {_WIDTH, _TILE_WIDTH} else _SHORT
        packed = struct.pack(f"{page.order}{len(numbers)}{_LETTERS[kind]}", *numbers)
        if len(packed) > _INLINE_BYTES:
            changed += bytes(len(changed) % 2)  # offsets are even
            packed, content = struct.pack(page.order + "I", len(changed)), packed
            changed += content
        entry = struct.pack(page.order + "HHI", tag, kind, len(numbers)) + packed.ljust(_INLINE_BYTES, b"\0")
        changed[page.at[tag] : page.at[tag] + _ENTRY_BYTES] = entry
    return bytes(changed)
