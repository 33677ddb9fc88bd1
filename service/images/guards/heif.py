"""Walk a HEIF container (ISO/IEC 23008-12), as AVIF and HEIC files are: its boxes, and the coded data of its pictures.

Decoders allocate what the coded data say and not what the file announces: an AVIF file of 780 bytes can announce 64x64
pixels and hold a frame of 16,384x16,384. So the walk counts what the decoder will hold: pictures, tiles and frames.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from service.errors import BrokenImage, UnsupportedImage, shown
from service.images.guards.boxes import Box, Fields, Steps, boxes_in
from service.images.header import Header
from service.images.outline import Outline

MAX_EXIF_BYTES = 2**20  # a camera writes up to 64 KB; decoders make numbers of all
MAX_STEPS_PEEKED, MAX_STEPS = 5_000, 100_000  # about 3 and 60 ms; a picture of 500 tiles takes 11,000
# All pictures of a file together have at most this many times the announced pixels, and some more for tiles that go
# beyond the picture. A grid of tiles takes them twice, as does its transparency.
MAX_SHARE, _MORE_PIXELS = 4, 4_000_000
_LONG_FIELDS, _IN_IDAT = 1, 1
_GRID_HEAD_BYTES = 4
_SINGLE = frozenset({b"pitm", b"iprp", b"ipco", b"iinf", b"iloc", b"idat"})  # where two would be ambiguous

_Size = tuple[int, int]  # width and height
Configuration = memoryview  # content of the property that says how an item is coded


@dataclass(frozen=True)
class Coding:
    """How the pictures of a container are coded.

    Attributes:
        format: Pillow's name of the format.
        name: Name for people.
        item: Kind of the items that hold coded pictures.
        configuration: Kind of the property with their configuration.
        is_grey: Returns whether a configuration means grey.
        frame_pixels: Returns the number of pixels of all frames in the content of an item.
        others: Kinds of the other items that a file may have; None for any, where the decoder ignores them.
    """

    format: str
    name: str
    item: bytes
    configuration: bytes
    is_grey: Callable[[Configuration], bool]
    frame_pixels: Callable[[memoryview, Configuration, Steps], int]
    others: frozenset[bytes] | None = None


@dataclass
class _Items:
    """The items of a file: pictures, tiles, transparency and metadata.

    Attributes:
        primary: Number of the item that is the picture.
        size_by_item: Announced sizes.
        configuration_by_item: How coded items are coded.
    """

    primary: int
    size_by_item: dict[int, _Size] = field(default_factory=dict)
    configuration_by_item: dict[int, Configuration] = field(default_factory=dict)


def peek(data: bytes, coding: Coding) -> Header:
    """Read the announced size of the picture."""
    steps = Steps(MAX_STEPS_PEEKED, coding.name)
    try:
        items = _read_properties(data, _boxes_of_meta(data, steps), coding, steps)
        configuration = items.configuration_by_item.get(items.primary)
        is_colour = configuration is None or not coding.is_grey(configuration)
    except (BrokenImage, struct.error, IndexError):  # decoding reports it
        return Header(coding.format)
    width, height = items.size_by_item.get(items.primary, (None, None))
    return Header(coding.format, width, height, is_colour)


def walk(data: bytes, coding: Coding) -> Outline:
    """Check a file and return its outline.

    Raises:
        BrokenImage: The file is truncated or damaged, or has many more pixels to decode than it announces.
    """
    steps = Steps(MAX_STEPS, coding.name)
    boxes = _boxes_of_meta(data, steps)
    items = _read_properties(data, boxes, coding, steps)
    if items.primary not in items.size_by_item:
        raise BrokenImage(f"{coding.name}: the size of the picture is missing")
    width, height = items.size_by_item[items.primary]
    content_by_item = _read_contents(data, boxes, steps)
    pixels = 0
    for item, kind in _read_kinds(data, boxes, steps).items():
        if kind == b"Exif" and len(content_by_item.get(item, b"")) > MAX_EXIF_BYTES:
            raise BrokenImage(f"{coding.name}: more than {MAX_EXIF_BYTES >> 20} MiB of EXIF data")
        announced, content = items.size_by_item.get(item, (0, 0)), content_by_item.get(item, memoryview(b""))
        configuration = items.configuration_by_item.get(item, memoryview(b""))
        pixels += max(announced[0] * announced[1], _decoded_pixels(kind, content, configuration, coding, steps))
    if pixels > MAX_SHARE * width * height + _MORE_PIXELS:
        raise BrokenImage(
            f"{coding.name}: it announces {width}x{height}, but its pictures, tiles and frames have {pixels} pixels"
        )
    return Outline(coding.format, width, height)


def _boxes_of_meta(data: bytes, steps: Steps) -> dict[bytes, Box]:
    """Return the boxes that describe the items, by their kind."""
    meta = next((box for box in boxes_in(data, 0, len(data), steps) if box.kind == b"meta"), None)
    if meta is None:
        raise BrokenImage(f"{steps.name}: there is no still picture in the file")
    return _by_kind(boxes_in(data, meta.start + 4, meta.end, steps), steps)  # behind version and flags


def _by_kind(boxes: Iterable[Box], steps: Steps) -> dict[bytes, Box]:
    found: dict[bytes, Box] = {}
    for box in boxes:
        if box.kind in found and box.kind in _SINGLE:
            raise BrokenImage(f"{steps.name}: several boxes {box.kind.decode()}")
        found[box.kind] = box
    return found


def _read_properties(data: bytes, boxes: dict[bytes, Box], coding: Coding, steps: Steps) -> _Items:
    """Read the number of the picture, and the sizes and configurations of all items."""
    fields = Fields(data, _box(boxes, b"pitm", steps), steps)
    items = _Items(fields.take(4 if fields.take(4) >> 24 else 2))
    properties: list[_Size | Configuration | None] = []
    parts = list(_inside(data, _box(boxes, b"iprp", steps), steps))
    for box in _inside(data, _box(_by_kind(parts, steps), b"ipco", steps), steps):
        if box.kind == b"ispe":
            properties.append(struct.unpack_from(">II", data, box.start + 4))
        else:
            properties.append(memoryview(data)[box.start : box.end] if box.kind == coding.configuration else None)
    for box in parts:
        if box.kind == b"ipma":
            _read_associations(Fields(data, box, steps), items, properties, coding)
    return items


def _read_associations(
    fields: Fields, items: _Items, properties: list[_Size | Configuration | None], coding: Coding
) -> None:
    head = fields.take(4)
    item_bytes, index_bytes = 4 if head >> 24 else 2, 2 if head & _LONG_FIELDS else 1
    for _ in range(fields.take(4)):
        item = fields.take(item_bytes)
        for _ in range(fields.take(1)):
            index = (fields.take(index_bytes) & (0x7FFF if index_bytes == 2 else 0x7F)) - 1
            found = properties[index] if 0 <= index < len(properties) else None
            if isinstance(found, tuple) and items.size_by_item.setdefault(item, found) != found:
                raise BrokenImage(f"{coding.name}: a picture has several sizes")
            if isinstance(found, memoryview) and items.configuration_by_item.setdefault(item, found) is not found:
                raise BrokenImage(f"{coding.name}: a picture has several configurations")


def _read_kinds(data: bytes, boxes: dict[bytes, Box], steps: Steps) -> dict[int, bytes]:
    """Read the kind of each item, such as b"av01"."""
    fields = Fields(data, _box(boxes, b"iinf", steps), steps)
    fields.take(4 if fields.take(4) >> 24 else 2)  # number of entries
    kind_by_item: dict[int, bytes] = {}
    for box in boxes_in(data, fields.position, boxes[b"iinf"].end, steps):
        entry = Fields(data, box, steps)
        item = entry.take(4 if entry.take(4) >> 24 > 2 else 2)
        entry.take(2)  # protection
        if item in kind_by_item:
            raise BrokenImage(f"{steps.name}: two pictures have one number")
        kind_by_item[item] = entry.take(4).to_bytes(4, "big")
    return kind_by_item


def _read_contents(data: bytes, boxes: dict[bytes, Box], steps: Steps) -> dict[int, memoryview]:
    """Return the bytes of each item, put together of their parts."""
    fields, view = Fields(data, _box(boxes, b"iloc", steps), steps), memoryview(data)
    version = fields.take(4) >> 24
    sizes = fields.take(2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    content_by_item: dict[int, memoryview] = {}
    total = 0
    for _ in range(fields.take(4 if version > 1 else 2)):
        item = fields.take(4 if version > 1 else 2)
        place = fields.take(2) & 15 if version else 0
        fields.take(2)  # another file
        base = fields.take(base_bytes)
        start, end = (0, len(data))
        if place == _IN_IDAT:
            start, end = _box(boxes, b"idat", steps).start, _box(boxes, b"idat", steps).end
        pieces = []
        for _ in range(fields.take(2)):
            fields.take(index_bytes if version else 0)
            first = start + base + fields.take(offset_bytes)
            last = first + fields.take(length_bytes)
            total += last - first
            if last > end or total > 2 * len(data):
                raise BrokenImage(f"{steps.name}: its pictures are larger than the file; it is truncated or damaged")
            pieces.append(view[first:last])
        if item in content_by_item:
            raise BrokenImage(f"{steps.name}: two pictures have one number")
        content_by_item[item] = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
    return content_by_item


def _decoded_pixels(
    kind: bytes, content: memoryview, configuration: Configuration, coding: Coding, steps: Steps
) -> int:
    """Return the number of pixels that the decoder makes of an item."""
    if kind == coding.item:
        return coding.frame_pixels(content, configuration, steps)
    if kind == b"grid":
        is_long = content[1] & _LONG_FIELDS
        width, height = struct.unpack_from(">II" if is_long else ">HH", content, _GRID_HEAD_BYTES)
        return int(width * height)
    if coding.others is not None and kind not in coding.others:
        raise UnsupportedImage(f"{coding.name}: an item of kind {shown(kind)}; convert the file to JPEG or PNG")
    return 0


def _inside(data: bytes, box: Box, steps: Steps) -> Iterator[Box]:
    return boxes_in(data, box.start, box.end, steps)


def _box(boxes: dict[bytes, Box], kind: bytes, steps: Steps) -> Box:
    if kind not in boxes:
        raise BrokenImage(f"{steps.name}: the box {kind.decode()} is missing")
    return boxes[kind]
