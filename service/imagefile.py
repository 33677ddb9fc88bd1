"""What an image file's own bytes say, read before any decoder sees them: format, size, frames, and the bombs.

Pillow opens files whose header alone makes it allocate gigabytes, decodes a 142 KB JPEG of 1,500 scans for half a
minute, and takes a PNG with wrong checksums or half its data for a whole one. Each function here walks one container
format with bounded work and refuses those.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.deflate import zlib
from service.errors import BrokenImage, TooManyImages, TooManyPixels, UnsupportedImage, UnsupportedMediaType, shown

# Progressive encoders write 10 scans, the longest script in the wild about 20. Every scan walks all pixels.
MAX_JPEG_SCANS = 40
MAX_PNG_CHUNKS = 100_000
MAX_TIFF_PAGES_WALKED = 65_536
_PNG_COLOUR_AT = 25
# A start of frame: marker, length, bits, height, width, and then how many components there are.
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc2]..\x08....(.)", re.DOTALL)
_JPEG_LOOK_BYTES = 1 << 18
_NPY_MAGIC, _NPY_SHAPE = b"\x93NUMPY", re.compile(rb"'shape': \(([0-9, ]*)\)")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INFLATE_STEP = 1 << 20


@dataclass(frozen=True)
class Outline:
    """What the walk has found.

    Attributes:
        format: Pillow's name for it.
        width: In pixels, where the walk knows it.
        height: In pixels, where the walk knows it.
        frames: Or pages.
        is_plain: A PNG of 8-bit grey or RGB, upright and opaque.
        png_data: Of a PNG, the bodies of its IDAT chunks.
        png_bytes: What they must inflate to.
    """

    format: str
    width: int | None
    height: int | None
    frames: int = 1
    is_plain: bool = False
    png_data: Sequence[memoryview] = ()
    png_bytes: int = 0


def inspect(data: bytes, *, max_pixels: int, max_frames: int) -> Outline:
    """The outline of an image file that is safe to give to a decoder. See also `check_data`.

    Raises:
        UnsupportedMediaType: The first bytes are of no format we read.
        BrokenImage, UnsupportedImage: The file is damaged, malicious, or would lose precision.
        TooManyPixels, TooManyImages: It is over a limit.
    """
    name = sniff(data)
    if name is None:
        raise UnsupportedMediaType(
            f"the image starts with {shown(data[:8])}, which is no PNG, JPEG, WebP, GIF, BMP or TIFF file"
        )
    try:
        outline = _WALK_BY_FORMAT[name](data)
        if outline.width is not None and outline.height is not None:
            check_size(outline.width, outline.height, max_pixels=max_pixels)
        if outline.frames > max_frames:
            raise TooManyImages(f"{name}: {outline.frames} frames, the limit is {max_frames} (setting max_frames)")
    except (struct.error, IndexError, OverflowError) as error:  # the walks read where the file tells them to
        raise BrokenImage(f"{name}: a header points past the end of the file; it was cut off or damaged") from error
    return outline


def check_data(outline: Outline) -> None:
    """What decoders would not notice: that a PNG's image data ends too early or has a wrong checksum. Inflates it once.

    Raises:
        BrokenImage: It does.
    """
    if outline.format == "PNG":
        _check_png_data(outline.png_data, outline.png_bytes)


def sniff(data: bytes) -> str | None:
    """The format by magic bytes, as Pillow calls it, or None."""
    if data.startswith(b"RIFF"):
        return "WEBP" if data[8:12] == b"WEBP" else None
    return next((name for magic, name in _FORMAT_BY_MAGIC.items() if data.startswith(magic)), None)


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a PNG's header states; None for other files. Nothing is checked yet."""
    if not data.startswith(PNG_SIGNATURE) or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def is_colour(data: bytes) -> bool:
    """Whether a file says that it has colour: of PNG, JPEG and NPY files only the headers are looked at.

    Others are taken to be in colour, which what reads them also handles if they are grey.
    """
    if data.startswith(PNG_SIGNATURE):
        return len(data) > _PNG_COLOUR_AT and data[_PNG_COLOUR_AT] not in {0, 4}
    if data.startswith(b"\xff\xd8"):
        frame = _JPEG_FRAME.search(data, 0, _JPEG_LOOK_BYTES)
        return frame is None or frame[1] != b"\x01"
    if data.startswith(_NPY_MAGIC):
        shape = _NPY_SHAPE.search(data, 0, 256)
        axes = [axis for axis in shape[1].split(b",") if axis.strip()] if shape else []
        return len(axes) > 2 and axes[-3].strip() == b"3"  # (..., C, H, W)
    return True


def check_size(width: int, height: int, *, max_pixels: int) -> None:
    """Refuses an image that has no pixels or too many.

    Raises:
        BrokenImage, TooManyPixels: It does.
    """
    if width <= 0 or height <= 0:
        raise BrokenImage(f"the image is {width}x{height}; it has no pixels")
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image is {width}x{height}, {width * height} pixels; the limit is {max_pixels} (setting max_pixels)"
        )


# --- PNG: signature, then chunks of length, type, data, CRC ---


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, position = memoryview(data), 8
    for _ in range(MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = view[position + 8 : position + 8 + length]
        (crc,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != crc:
            raise BrokenImage(f"PNG: chunk {shown(kind)[1:]} has a wrong checksum; the file is damaged")
        yield kind, body
        if kind == b"IEND":
            return
        position += 12 + length
    raise BrokenImage(f"PNG: more than {MAX_PNG_CHUNKS} chunks")


def _walk_png(data: bytes) -> Outline:
    width, height, frames = 0, 0, 1
    depth, colour, interlace, kinds = 0, 0, 0, set()
    bodies: list[memoryview] = []
    for i, (kind, body) in enumerate(_png_chunks(data)):
        if (i == 0) != (kind == b"IHDR"):
            raise BrokenImage("PNG: IHDR is not the first chunk, or not the only one")
        if kind == b"IHDR":
            width, height, depth, colour, interlace = struct.unpack_from(">IIBBxxB", body)
            if depth not in _PNG_DEPTHS.get(colour, ()):
                raise BrokenImage(f"PNG: colour type {colour} with {depth} bits does not exist")
        elif kind == b"IDAT":
            bodies.append(body)
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", body)
        kinds.add(kind)
    if depth == 16 and (colour != 0 or b"tRNS" in kinds):
        raise UnsupportedImage(
            "PNG: 16-bit colour or transparency would silently lose its lower 8 bits; "
            "send 8 bits, 16-bit grey, or an NPY array"
        )
    is_plain = depth == 8 and colour in {0, 2} and not interlace and kinds <= _PLAIN_KINDS
    raw_bytes = _png_raw_bytes(width, height, depth, colour, interlace)
    return Outline("PNG", width, height, max(1, frames), is_plain, bodies, raw_bytes)


def _check_png_data(bodies: Sequence[memoryview], expected: int) -> None:
    """The image data inflates to exactly what the header promises; memory stays constant."""
    inflater, size = zlib.decompressobj(), 0
    try:
        for body in bodies:
            pending: bytes | memoryview = body
            while len(pending) and size <= expected and not inflater.eof:
                size += len(inflater.decompress(pending, _INFLATE_STEP))
                pending = inflater.unconsumed_tail
    except zlib.error as error:  # type: ignore[misc]  # isal's stub does not say that it is an exception
        raise BrokenImage(f"PNG: the image data does not inflate ({error}); the file is damaged") from error
    if size < expected:
        raise BrokenImage(f"PNG: the image data ends after {size} of {expected} bytes; the file was cut off")


def _png_raw_bytes(width: int, height: int, depth: int, colour: int, interlace: int) -> int:
    bits = depth * _PNG_CHANNELS[colour]
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    total = 0
    for x0, y0, dx, dy in passes:
        columns, rows = -(-(width - x0) // dx), -(-(height - y0) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Chunks that change nothing about the pixels. Not tRNS; not eXIf or text, which may hold an orientation.
_PLAIN_KINDS = {b"IHDR", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"tIME"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


# --- JPEG: markers; inside coded data 0xFF is followed by 0x00 or a restart marker, so no scan is counted twice ---

_JPEG_MARKER_IN_CODED_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SOS, _EOI, _ALONE = 0xDA, 0xD9, frozenset({0x01, *range(0xD0, 0xD9)})


def _walk_jpeg(data: bytes) -> Outline:
    width, height, scans, position = 0, 0, 0, 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1  # fill bytes
        if data[position] != 0xFF:
            raise BrokenImage(f"JPEG: no marker at byte {position}; the file is damaged")
        marker = data[position + 1]
        position += 2
        if marker == _EOI:
            break
        if marker in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAME_HEADERS:
            if width:
                raise BrokenImage("JPEG: more than one frame header")
            _, height, width = struct.unpack_from(">BHH", data, position + 2)
        position += max(2, length)
        if marker == _SOS:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise BrokenImage(f"JPEG: more than {MAX_JPEG_SCANS} scans, which only a decompression bomb has")
            found = _JPEG_MARKER_IN_CODED_DATA.search(data, position)
            if found is None:
                raise BrokenImage("JPEG: the image data has no end; the file was cut off")
            position = found.start()
    if not scans:
        raise BrokenImage("JPEG: there is no image data")
    return Outline("JPEG", width, height)


# --- the others ---


def _walk_webp(data: bytes) -> Outline:
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


def _walk_gif(data: bytes) -> Outline:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, frames = 13 + _gif_palette_bytes(flags), 0
    while data[position] != 0x3B:
        block = data[position]
        if block == 0x2C:
            frames += 1
            position += 11 + _gif_palette_bytes(data[position + 9])  # descriptor, palette, minimum code size
        elif block == 0x21:
            position += 2
        elif frames:
            break  # rubbish after the first frame, which is the one we show
        else:
            raise BrokenImage(f"GIF: unknown block 0x{block:02x} at byte {position}")
        while data[position]:
            position += 1 + data[position]
        position += 1
        if frames and position >= len(data):
            break  # a missing trailer is common and harmless
    return Outline("GIF", width, height, max(1, frames))


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _walk_bmp(data: bytes) -> Outline:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Outline("BMP", abs(width), abs(height))


def _walk_tiff(data: bytes) -> Outline:
    """Counts the pages; a chain of directories that bites its own tail is refused. The size is Pillow's to read."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    count_format, entry_bytes, offset_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    (offset,) = struct.unpack_from(order + offset_format, data, 8 if is_big else 4)
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) > MAX_TIFF_PAGES_WALKED:
            raise BrokenImage("TIFF: the chain of pages runs in a circle")
        seen.add(offset)
        (entries,) = struct.unpack_from(order + count_format, data, offset)
        after = offset + struct.calcsize(order + count_format) + entries * entry_bytes
        (offset,) = struct.unpack_from(order + offset_format, data, after)
    if not seen:
        raise BrokenImage("TIFF: there is no image in the file")
    return Outline("TIFF", None, None, len(seen))


_FORMAT_BY_MAGIC = {
    PNG_SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_WALK_BY_FORMAT = {
    "PNG": _walk_png,
    "JPEG": _walk_jpeg,
    "WEBP": _walk_webp,
    "GIF": _walk_gif,
    "BMP": _walk_bmp,
    "TIFF": _walk_tiff,
}
