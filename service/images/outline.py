"""The structure of an image file, found before decoding."""

from collections.abc import Sequence
from typing import NamedTuple


class Outline(NamedTuple):
    """The structure of an image file, as found by a check before decoding.

    Attributes:
        format: Pillow's name of the format.
        width: Width in pixels; None where only the decoder reads it.
        height: Height in pixels; None where only the decoder reads it.
        frames: Number of frames or pages.
        is_plain: Whether it is a PNG of 8-bit grey or RGB, upright and opaque.
        is_deep_colour: Whether it is a PNG of 16-bit RGB, opaque.
        dpi: Pixels per inch of a PNG, horizontally and vertically; None if unknown.
        png_data: Contents of the IDAT chunks of a PNG.
        png_bytes: Size of the inflated IDAT data, in bytes.
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
