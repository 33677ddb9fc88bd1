"""Arrays of the pixels of Pillow's pictures, and pictures of arrays, block by block.

In one step, Pillow would hold two more copies of a picture, and the GIL for as long as it converts.
"""

import io
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.images.blocks import blocks
from service.images.image import Values

# How Pillow reads the upper byte of each value of 16-bit RGB, by the order of the bytes -> how it reads the lower one
_LOWER = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B"}
_LOWER["RGB;16N"] = _LOWER["RGB;16L" if sys.byteorder == "little" else "RGB;16B"]


def values_of(picture: PillowImage.Image, mode: str) -> NDArray[np.uint8]:
    """Return the pixels of a picture in this mode of 8 bits, (H, W) or (H, W, C)."""
    width, height = picture.size
    values: NDArray[np.uint8] | None = None
    for rows, columns in blocks(height, width):
        box = (columns.start, rows.start, columns.stop, rows.stop)
        part = picture if box == (0, 0, width, height) else picture.crop(box)
        block = np.array(part if picture.mode == mode else part.convert(mode))
        if block.shape[:2] == (height, width):
            return block
        values = np.empty((height, width, *block.shape[2:]), np.uint8) if values is None else values
        values[rows, columns] = block
    assert values is not None  # noqa: S101  a picture has pixels
    return values


def deep_values_of(picture: PillowImage.Image, data: bytes) -> NDArray[np.uint16]:
    """Return the pixels of a picture of 16-bit RGB, (3, H, W).

    Pillow keeps the upper 8 bits of a value, so the file is read again for the lower ones.

    Args:
        picture: The file as Pillow opened it: a PNG, or a TIFF whose channels are not in separate planes.
        data: The file.
    """
    kinds = [picture.format or ""]
    picture.load()
    values = values_of(picture, "RGB").astype(np.uint16)
    values <<= 8
    with PillowImage.open(io.BytesIO(data), formats=kinds) as lower:
        for i, tile in enumerate(lower.tile):  # as if the bytes of a value stood in the other order
            args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
            swapped = (_LOWER[str(args[0])], *args[1:])
            lower.tile[i] = tile._replace(args=swapped if isinstance(tile.args, tuple) else swapped[0])
        lower.load()
        values |= values_of(lower, "RGB")
    return np.moveaxis(values, 2, 0)


def load_floats(picture: PillowImage.Image) -> None:
    """Load a picture of floats as the file has them.

    libtiff returns values in the order of the machine, and Pillow would swap the bytes of big-endian floats once more.
    """
    tiles = getattr(picture, "tile", [])
    for i, tile in enumerate(tiles):
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple):
            tiles[i] = tile._replace(args=("F;32NF", *tile.args[1:]))
    picture.load()


def picture_of(planes: Sequence[Values]) -> PillowImage.Image:
    """Return planes, (H, W) each, as a picture, which holds four bytes a pixel for several of them."""
    height, width = planes[0].shape
    picture: PillowImage.Image | None = None
    for rows, columns in blocks(height, width):
        parts = [plane[rows, columns] for plane in planes]
        block = PillowImage.fromarray(np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.stack(parts, axis=-1))
        if block.size == (width, height):
            return block
        picture = PillowImage.new(block.mode, (width, height), None) if picture is None else picture
        picture.paste(block, (columns.start, rows.start))
    assert picture is not None  # noqa: S101  an image has pixels
    return picture
