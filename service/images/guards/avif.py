"""Guard of AVIF files."""

from service.images.guards import av1, heif
from service.images.header import Header
from service.images.outline import Outline

_BRAND, _BRAND_AT = b"avif", 8
_MONOCHROME = 0x10
_CODING = heif.Coding(
    format="AVIF",
    name="AVIF",
    item=b"av01",
    configuration=b"av1C",
    is_grey=lambda configuration: bool(configuration[2] & _MONOCHROME),
    frame_pixels=lambda content, _, steps: av1.frame_pixels(content, steps),
)


def peek(data: bytes) -> Header:
    """Read the announced size of the picture."""
    return heif.peek(data, _CODING)


def walk(data: bytes) -> Outline:
    """Check an AVIF file and return its outline.

    Raises:
        BrokenImage: The file is truncated or damaged, or has many more pixels to decode than it announces.
    """
    return heif.walk(data, _CODING)


def as_still(data: bytes) -> bytes:
    """Return the file with the brand of a still picture, as decoders read a sequence from elsewhere in the file."""
    if data.startswith(_BRAND, _BRAND_AT):
        return data
    return data[:_BRAND_AT] + _BRAND + data[_BRAND_AT + len(_BRAND) :]
