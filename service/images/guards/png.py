"""Walk a PNG file: a signature, then chunks of length, type, data and CRC."""

import struct
from collections.abc import Iterator, Sequence

from service.errors import BrokenImage, UnsupportedImage, shown
from service.images.deflate import zlib
from service.images.header import Header
from service.images.outline import Outline

MAX_CHUNKS = 100_000
METRES_PER_INCH = 0.0254
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES = 26
_PALETTE = 3
_DEEP_COLOUR_BYTES = 8  # a pixel, while the upper and the lower bytes of 16-bit colour are put together
_INFLATE_STEP = 1 << 20
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Chunks that do not affect the pixels: tRNS does, and eXIf or text may hold an orientation.
_PLAIN_KINDS = {b"IHDR", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"tIME"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, position = memoryview(data), 8
    for _ in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = view[position + 8 : position + 8 + length]
        (crc,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != crc:
            raise BrokenImage(f"PNG: chunk {shown(kind)[1:]} has a wrong checksum; the file is damaged")
        yield kind, body
        if kind == b"IEND":
            return
        position += 12 + length
    raise BrokenImage(f"PNG: more than {MAX_CHUNKS} chunks")


def peek(data: bytes) -> Header:
    """Read the IHDR chunk."""
    if len(data) < _HEAD_BYTES:
        return Header("PNG")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    channels = 4 if colour == _PALETTE else _CHANNELS.get(colour, 4)  # a palette may have an alpha
    is_deep = depth == 16
    return Header(
        "PNG",
        width,
        height,
        is_colour=colour not in {0, 4},
        channels=channels,
        depth=2 if is_deep else 1,
        decoder_bytes=_DEEP_COLOUR_BYTES if is_deep and channels == 3 else 0,
    )


def walk(data: bytes) -> Outline:
    """Check a PNG file and return its outline.

    Raises:
        BrokenImage: A chunk is damaged, missing or out of order.
        UnsupportedImage: The pixels would lose precision.
    """
    width, height, frames = 0, 0, 1
    depth, colour, interlace, kinds = 0, 0, 0, set()
    bodies: list[memoryview] = []
    dpi: tuple[float, float] | None = None
    for i, (kind, body) in enumerate(_chunks(data)):
        if (i == 0) != (kind == b"IHDR"):
            raise BrokenImage("PNG: IHDR is not the first chunk, or not the only one")
        if kind == b"IHDR":
            width, height, depth, colour, interlace = struct.unpack_from(">IIBBxxB", body)
            if depth not in _DEPTHS.get(colour, ()):
                raise BrokenImage(f"PNG: colour type {colour} with {depth} bits does not exist")
        elif kind == b"IDAT":
            bodies.append(body)
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", body)
        elif kind == b"pHYs":
            dpi = _dpi(*struct.unpack_from(">IIB", body))
        kinds.add(kind)
    if depth == 16 and (colour not in {0, 2} or b"tRNS" in kinds):
        raise UnsupportedImage(
            "PNG: 16 bits with transparency would silently lose the lower 8; send 8 bits, 16-bit grey or RGB, or an "
            "NPY array"
        )
    is_plain = depth == 8 and colour in {0, 2} and not interlace and kinds <= _PLAIN_KINDS
    is_deep_colour = depth == 16 and colour == 2
    raw_bytes = _raw_bytes(width, height, depth, colour, interlace)
    return Outline("PNG", width, height, max(1, frames), is_plain, is_deep_colour, dpi, bodies, raw_bytes)


def _dpi(x: int, y: int, unit: int) -> tuple[float, float] | None:
    return (x * METRES_PER_INCH, y * METRES_PER_INCH) if unit == 1 else None


def check_data(bodies: Sequence[memoryview], expected: int) -> None:
    """Check that the image data inflates to exactly what the header promises, in constant memory."""
    inflater, size = zlib.decompressobj(), 0
    try:
        # In parts, as each call copies what it has not consumed.
        for part in (body[at : at + _INFLATE_STEP] for body in bodies for at in range(0, len(body), _INFLATE_STEP)):
            pending: bytes | memoryview = part
            while len(pending) and size <= expected and not inflater.eof:
                size += len(inflater.decompress(pending, _INFLATE_STEP))
                pending = inflater.unconsumed_tail
    except zlib.error as error:  # type: ignore[misc]  # isal's stub does not say that it is an exception
        raise BrokenImage(f"PNG: the image data does not inflate ({error}); the file is damaged") from error
    if size < expected:
        raise BrokenImage(f"PNG: the image data ends after {size} of {expected} bytes; the file is truncated")


def _raw_bytes(width: int, height: int, depth: int, colour: int, interlace: int) -> int:
    bits = depth * _CHANNELS[colour]
    if not interlace:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for x0, y0, dx, dy in _ADAM7:
        columns, rows = -(-(width - x0) // dx), -(-(height - y0) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total
