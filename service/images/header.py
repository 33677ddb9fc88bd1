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
        channels: Channels of a decoded pixel, with any transparency; a generous guess if the header does not tell.
        depth: Bytes of a decoded value.
        decoder_bytes: Bytes a pixel that this kind of file needs while it is decoded, beyond those of its format.
        shape: Shape of an NPY array; () for image files.
    """

    kind: str | None
    width: int | None = None
    height: int | None = None
    is_colour: bool = True
    images: int = 1
    channels: int = 4
    depth: int = 1
    decoder_bytes: float = 0.0
    shape: tuple[int, ...] = ()

    @property
    def pixels(self) -> int | None:
        """Number of images x width x height, or None if the header lacks them."""
        return None if self.width is None or self.height is None else self.images * self.width * self.height

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of a decoded pixel."""
        return self.channels * self.depth
