"""What a file's own bytes say, read before any decoder sees them: format, size, frames, and the bombs.

Pillow opens files whose header alone makes it allocate gigabytes, decodes a 142 KB JPEG of 1,500 scans for half a
minute, and takes a PNG with wrong checksums or half its data for a whole one. Each guard in `guards/` walks one
container format with bounded work and refuses those.
"""

import struct
from dataclasses import dataclass

from service.errors import BrokenImage, TooManyImages, TooManyPixels, UnsupportedMediaType, shown
from service.images import npy
from service.images.form import PLAIN, Form
from service.images.formats import format_of
from service.images.guards import png
from service.images.header import Header
from service.images.outline import Outline

_PAGED = {"TIFF"}  # of animations the first frame alone is decoded, and answers


def peek(data: bytes, form: Form = PLAIN) -> Header:
    """Read the header of an image or NPY file. Takes microseconds, whatever the size of the file."""
    if data.startswith(npy.NPY_MAGIC):
        return npy.peek(data, is_channels_last=form.is_channels_last)
    found = format_of(data)
    return Header(None) if found is None else found.peek(data)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image or NPY file of a request, what its head claims, and how the request says its values are laid out.

    Attributes:
        name: What the client calls it, or None.
    """

    data: bytes
    header: Header
    form: Form = PLAIN
    name: str | None = None

    @classmethod
    def of(cls, data: bytes, form: Form = PLAIN, name: str | None = None) -> "ImageFile":
        """Read the header of a file."""
        return cls(data, peek(data, form), form, name)


def inspect(data: bytes, *, max_pixels: int, max_frames: int) -> Outline:
    """Check an image file before decoding and return its outline. See also `check_data`.

    Raises:
        UnsupportedMediaType: The first bytes are of no format we read.
        BrokenImage, UnsupportedImage: The file is damaged, malicious, or would lose precision.
        TooManyPixels, TooManyImages: It is over a limit.
    """
    found = format_of(data)
    if found is None:
        raise UnsupportedMediaType(
            f"the image starts with {shown(data[:8])}, which is not a PNG, JPEG, WebP, GIF, BMP or TIFF file"
        )
    try:
        outline = found.walk(data)
        if outline.width is not None and outline.height is not None:
            check_size(outline.width, outline.height, max_pixels=max_pixels)
        if outline.frames > max_frames and found.name in _PAGED:
            raise TooManyImages(f"{found.name}: {outline.frames} pages, the limit is {max_frames} (setting max_frames)")
    except (struct.error, IndexError, OverflowError) as error:  # the walks read where the file tells them to
        raise BrokenImage(
            f"{found.name}: a header points past the end of the file; it is truncated or damaged"
        ) from error
    return outline


def check_data(outline: Outline) -> None:
    """Check what decoders miss: PNG image data that is truncated or has a wrong checksum.

    Raises:
        BrokenImage: It does.
    """
    if outline.format == "PNG":
        png.check_data(outline.png_data, outline.png_bytes)


def check_size(width: int, height: int, *, max_pixels: int) -> None:
    """Refuse an image that has no pixels or too many.

    Raises:
        BrokenImage, TooManyPixels: It does.
    """
    if width <= 0 or height <= 0:
        raise BrokenImage(f"the image is {width}x{height}; it has no pixels")
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image is {width}x{height}, {width * height} pixels; the limit is {max_pixels} (setting max_pixels)"
        )
