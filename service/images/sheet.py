"""Several images of one size in one picture: in rows, with white lines between them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest
from service.images.image import Image, Pixels, to_levels

_LINE = 2  # pixels between two images


@dataclass(frozen=True)
class Sheet:
    """The size of a sheet before it is drawn."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, manifest: Manifest, count: int, columns: int) -> "Sheet":
        """Return the sheet for `count` images of a model of one size."""
        height, width = _size(count, columns, manifest.input.height or 1, manifest.input.width or 1)
        return cls(manifest.input.channels, height, width)

    def blank(self) -> Image:
        """Return an empty image of this size without allocating memory."""
        return Image(np.broadcast_to(np.zeros(1, np.uint8), (1, self.channels, self.height, self.width)))


def columns_for(count: int) -> int:
    """Return the number of columns of a sheet that is about square."""
    return math.ceil(math.sqrt(count))


def draw_sheet(x: Pixels, columns: int) -> Image:
    """Draw the images (N, C, H, W) in reading order, 8-bit."""
    count, channels, height, width = x.shape
    sheet: NDArray[np.float32] = np.ones((channels, *_size(count, columns, height, width)), np.float32)
    for i, image in enumerate(x):
        top, left = (i // columns) * (height + _LINE), (i % columns) * (width + _LINE)
        sheet[:, top : top + height, left : left + width] = image
    return Image(to_levels(sheet[None], np.uint8))


def _size(count: int, columns: int, height: int, width: int) -> tuple[int, int]:
    rows = math.ceil(count / columns)
    return rows * (height + _LINE) - _LINE, columns * (width + _LINE) - _LINE
