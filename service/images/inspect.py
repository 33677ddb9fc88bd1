"""What an image file's own bytes say, read before any decoder sees them: format, size, frames, and the bombs.

Pillow opens files whose header alone makes it allocate gigabytes, decodes a 142 KB JPEG of 1,500 scans for half a
minute, and takes a PNG with wrong checksums or half its data for a whole one. Each guard in `guards/` walks one
container format with bounded work and refuses those.
"""

import re
import struct

from service.errors import BrokenImage, TooManyImages, TooManyPixels, UnsupportedMediaType, shown
from service.images.guards import bmp, gif, jpeg, png, tiff, webp
from service.images.guards.png import PNG_SIGNATURE
from service.images.outline import Outline

_PNG_COLOUR_AT = 25
# A start of frame: marker, length, bits, height, width, and then how many components there are.
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc2]..\x08....(.)", re.DOTALL)
_JPEG_LOOK_BYTES = 1 << 18
_NPY_MAGIC, _NPY_SHAPE = b"\x93NUMPY", re.compile(rb"'shape': \(([0-9, ]*)\)")


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
        png.check_data(outline.png_data, outline.png_bytes)


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
    "PNG": png.walk,
    "JPEG": jpeg.walk,
    "WEBP": webp.walk,
    "GIF": gif.walk,
    "BMP": bmp.walk,
    "TIFF": tiff.walk,
}
