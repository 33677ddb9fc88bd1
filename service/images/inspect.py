"""Checks of a file's bytes before decoding: format, size, frames and decompression bombs.

Pillow allocates gigabytes for the header of a small file, decodes a 142 KB JPEG of 1,500 scans for half a minute, and
accepts a PNG with wrong checksums or half its data. Each guard in `guards/` walks one container format with bounded
work and rejects such files.
"""

import struct
from typing import NamedTuple

from service.errors import BrokenImage, TooManyImages, TooManyPixels, UnsupportedMediaType, shown
from service.images import npy
from service.images.form import PLAIN, Form
from service.images.formats import format_of
from service.images.guards import png
from service.images.header import Header
from service.images.outline import Outline

_ISO_MEDIA = b"ftyp"  # after the length of the first box
_PAGED = {"TIFF"}  # pages count towards max_frames; of animations only the first frame is decoded


def peek(data: bytes, form: Form = PLAIN) -> Header:
    """Read the header of an image or NPY file, in microseconds for any size of file."""
    if data.startswith(npy.NPY_MAGIC):
        return npy.peek(data, is_channels_last=form.is_channels_last)
    found = format_of(data)
    return Header(None) if found is None else found.peek(data)


class ImageFile(NamedTuple):
    """An image or NPY file of a request.

    Attributes:
        data: Bytes of the file.
        header: Its header, not yet verified.
        form: Layout of its values, as declared by the request.
        name: File name given by the client, or None.
        field: Field of the form that it came in; "file" for bodies that are no form.
    """

    data: bytes
    header: Header
    form: Form = PLAIN
    name: str | None = None
    field: str = "file"

    @classmethod
    def of(cls, data: bytes, form: Form = PLAIN, name: str | None = None, field: str = "file") -> "ImageFile":
        """Read the header of a file."""
        return cls(data, peek(data, form), form, name, field)


def inspect(data: bytes, *, max_pixels: int, max_frames: int) -> Outline:
    """Check an image file before decoding and return its outline. See also `check_data`.

    Raises:
        UnsupportedMediaType: The first bytes match no known format.
        BrokenImage: The file is damaged or malicious.
        UnsupportedImage: Decoding would lose precision.
        TooManyPixels, TooManyImages: The image exceeds a limit.
    """
    found = format_of(data)
    if found is None:
        if data[4:8] == _ISO_MEDIA:
            raise UnsupportedMediaType("the image is a video file; send single frames as JPEG or PNG")
        raise UnsupportedMediaType(
            f"the image starts with {shown(data[:8])}, which is not a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC "
            "file"
        )
    try:
        outline = found.walk(data)
        if outline.width is not None and outline.height is not None:
            check_size(outline.width, outline.height, max_pixels=max_pixels)
        if outline.frames > max_frames and found.name in _PAGED:
            raise TooManyImages(f"{found.name}: {outline.frames} pages, the limit is {max_frames} (setting max_frames)")
    except (struct.error, IndexError, OverflowError) as error:  # the walks follow offsets in the file
        raise BrokenImage(
            f"{found.name}: a header points past the end of the file; it is truncated or damaged"
        ) from error
    return outline


def check_data(outline: Outline) -> None:
    """Check for PNG image data that is truncated or has a wrong checksum, which Pillow misses.

    Raises:
        BrokenImage: The data is damaged or truncated.
    """
    if outline.format == "PNG":
        png.check_data(outline.png_data, outline.png_bytes)


def check_size(width: int, height: int, *, max_pixels: int) -> None:
    """Check that an image has at least one pixel and at most `max_pixels`.

    Raises:
        BrokenImage: The image has no pixels.
        TooManyPixels: The image has too many pixels.
    """
    if width <= 0 or height <= 0:
        raise BrokenImage(f"the image is {width}x{height}; it has no pixels")
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image is {width}x{height}, {width * height} pixels; the limit is {max_pixels} (setting max_pixels)"
        )
