"""Guard of HEIC files, which iPhones write. The package pillow-heif decodes them, where it is installed."""

from service.images.guards import heif, hevc
from service.images.header import Header
from service.images.outline import Outline

_CODING = heif.Coding(
    format="HEIF",
    name="HEIC",
    item=b"hvc1",
    configuration=b"hvcC",
    is_grey=hevc.is_grey,
    frame_pixels=hevc.frame_pixels,
    others=frozenset({b"grid", b"Exif", b"mime", b"uri ", b"tmap"}),
)


def peek(data: bytes) -> Header:
    """Read the announced size of the picture."""
    return heif.peek(data, _CODING)


def walk(data: bytes) -> Outline:
    """Check a HEIC file and return its outline.

    Raises:
        BrokenImage: The file is truncated or damaged, or has many more pixels to decode than it announces.
        UnsupportedImage: It has pictures that are coded in another way, or put together of others.
    """
    return heif.walk(data, _CODING)
