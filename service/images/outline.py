"""What the walk through an image file finds before a decoder sees it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outline:
    """The structure of an image file, as found by a check before decoding.

    Attributes:
        format: Pillow's name for it.
        width: In pixels, where the walk knows it.
        height: In pixels, where the walk knows it.
        frames: Or pages.
        is_plain: A PNG of 8-bit grey or RGB, upright and opaque.
        is_deep_colour: A PNG of 16-bit RGB, opaque.
        dpi: Pixels per inch across and down, where a PNG says it.
        png_data: For a PNG, the bodies of its IDAT chunks.
        png_bytes: What they must inflate to.
    """

    format: str
    width: int | None
    height: int | None
    frames: int = 1
    is_plain: bool = False
    is_deep_colour: bool = False
    dpi: tuple[float, float] | None = None
    png_data: Sequence[memoryview] = ()
    png_bytes: int = 0
