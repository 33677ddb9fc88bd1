"""Walk a TIFF file: a chain of directories, one per page.

Pillow makes Python numbers of all tags of the first page, and of the directories that it points to (EXIF, GPS). A tag
of 120 MB took 1.3 GB, and others waited for up to 3 s.
"""

import struct

from service.errors import BrokenImage
from service.images.header import Header
from service.images.outline import Outline

MAX_PAGES_WALKED = 65_536
MAX_TAGS = 4096  # of a directory; Pillow knows some hundred
MAX_NUMBERS = 2**20  # in the tags of a directory: 16 megapixels in tiles of 16x16 have 125,000
MAX_DIRECTORIES = 8  # that a page points to
_ENTRIES_PEEKED = 100
_WIDTH, _HEIGHT, _BITS, _SHORT = 256, 257, 258, 3
_FLOAT_BITS = 32
_IN_BYTES = frozenset({1, 2, 7})  # types of tags that stay bytes: BYTE, ASCII and UNDEFINED
_POINTERS = frozenset({330, 34_665, 34_853, 40_965})  # to directories: other sizes, EXIF, GPS, and EXIF's compatibility


def peek(data: bytes) -> Header:
    """Read the first directory, if it is found within a few steps."""
    order = "<" if data.startswith(b"II") else ">"
    side_by_tag: dict[int, int] = {}
    depth = 2
    try:
        (offset,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, offset)
        for at in range(offset + 2, offset + 2 + 12 * min(count, _ENTRIES_PEEKED), 12):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in {_WIDTH, _HEIGHT}:
                (side_by_tag[tag],) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, at + 8)
            elif tag == _BITS and kind == _SHORT:
                (several,) = struct.unpack_from(order + "I", data, at + 4)
                where = at + 8 if several <= 2 else struct.unpack_from(order + "I", data, at + 8)[0]
                depth = 4 if struct.unpack_from(order + "H", data, where)[0] == _FLOAT_BITS else 2
    except struct.error:  # truncated, or a BigTIFF: decoding reports it
        return Header("TIFF", depth=2)
    return Header("TIFF", side_by_tag.get(_WIDTH), side_by_tag.get(_HEIGHT), depth=depth)


def walk(data: bytes) -> Outline:
    """Check a TIFF file, count its pages and return its outline, without a size.

    Raises:
        BrokenImage: The chain of directories has a cycle, or is empty; or a directory has more tags or numbers than any
            encoder writes.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    count_format, entry_bytes, offset_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    (offset,) = struct.unpack_from(order + offset_format, data, 8 if is_big else 4)
    _check_tags(data, offset, order, is_big=is_big)
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) > MAX_PAGES_WALKED:
            raise BrokenImage("TIFF: the chain of pages has a cycle")
        seen.add(offset)
        (entries,) = struct.unpack_from(order + count_format, data, offset)
        after = offset + struct.calcsize(order + count_format) + entries * entry_bytes
        (offset,) = struct.unpack_from(order + offset_format, data, after)
    if not seen:
        raise BrokenImage("TIFF: there is no image in the file")
    return Outline("TIFF", None, None, len(seen))


def _check_tags(data: bytes, first: int, order: str, *, is_big: bool) -> None:
    """Check the tags of a page, and of the directories that it points to.

    Raises:
        BrokenImage: There are more tags, numbers or directories than any encoder writes.
    """
    entry = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    offsets, checked = [first], set[int]()
    while offsets:
        offset = offsets.pop()
        if offset in checked or not 0 < offset < len(data):
            continue
        checked.add(offset)
        (tags,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, offset)
        if tags > MAX_TAGS or len(checked) > MAX_DIRECTORIES:
            raise BrokenImage(f"TIFF: more than {MAX_TAGS} tags, or {MAX_DIRECTORIES} directories of a page")
        start, numbers = offset + (8 if is_big else 2), 0
        for at in range(start, min(start + tags * entry.size, len(data) - entry.size + 1), entry.size):
            tag, kind, count, value = entry.unpack_from(data, at)
            numbers += 0 if kind in _IN_BYTES else count
            if tag in _POINTERS:
                offsets.append(value)
        if numbers > MAX_NUMBERS:
            raise BrokenImage(f"TIFF: more than {MAX_NUMBERS} numbers in the tags of a page")
