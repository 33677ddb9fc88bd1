"""The header of a file, read before the file is checked: enough to count, to queue and to choose a model."""

from typing import NamedTuple


class Header(NamedTuple):
    """The fields of a file's header, not yet verified: use them to plan, never to allocate.

    Attributes:
        kind: Name of the image format, "NPY", or None for an unknown format.
        width: Width in pixels; None if the header lacks it.
        height: Height in pixels; None if the header lacks it.
        is_colour: False for grey files. True if the header does not tell, as models for colour accept grey, too.
        images: Images in an array (N, C, H, W); 1 for every other file.
        bytes_per_pixel: Bytes of a decoded pixel, all channels; a generous guess if the header does not tell.
        shape: Shape of an NPY array; () for image files.
    """

    kind: str | None
    width: int | None = None
    height: int | None = None
    is_colour: bool = True
    images: int = 1
    bytes_per_pixel: int = 4
    shape: tuple[int, ...] = ()

    @property
    def pixels(self) -> int | None:
        """Number of images x width x height, or None if the header lacks them."""
        return None if self.width is None or self.height is None else self.images * self.width * self.height
