"""Varied copies of good images: rotated, shifted, brighter or darker, saved as JPEG."""

import io
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pydantic import Field, PositiveInt
from torch.nn import functional as F

from training.config import Section
from training.images.pixels import Kept


class VaryConfig(Section):
    """Expected variation that the given good images do not show. Varied copies are used in training and calibration.

    If all fields are 0, no copies are made.
    """

    turn: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    """Maximum rotation in degrees, in both directions."""
    shift: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Maximum shift in any direction, as a share of the side."""
    light: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Maximum change of brightness, as a share."""
    jpeg: Annotated[int, Field(ge=0, le=95)] = 0
    """Lowest JPEG quality of the copies; 0: no JPEG."""
    copies: PositiveInt = 3
    """Copies of every image."""

    @property
    def is_used(self) -> bool:
        """Whether any field is above 0."""
        return bool(self.turn or self.shift or self.light or self.jpeg)


def varied(image: Kept, config: VaryConfig, rng: np.random.Generator) -> Kept:
    """Vary an image. Each kind of change is applied with probability 1/2, more often near the ends of its range.

    Args:
        image: Image at the size of its file, (C, H, W), bytes or pixels in [0, 1].
        config: Ranges of the changes.
        rng: Random number generator.
    """
    turn, shift_x, shift_y, light, jpeg = np.cos(rng.uniform(0.0, np.pi, 5)) * (rng.random(5) < 0.5)  # in [-1, 1]
    top = 255.0 if image.dtype == np.uint8 else 1.0
    x = image.astype(np.float32) / np.float32(top)
    x = _moved(x, config.turn * turn, config.shift * shift_x, config.shift * shift_y)
    x = np.clip(x * np.float32(1.0 + config.light * light), 0.0, 1.0)
    if config.jpeg and jpeg:
        x = _saved(x, round(config.jpeg + (95 - config.jpeg) * (1.0 - abs(jpeg))))
    if image.dtype != np.uint8:
        return x
    whole: NDArray[np.uint8] = np.rint(x * 255).astype(np.uint8)
    return whole


def _moved(x: NDArray[np.float32], degrees: float, right: float, down: float) -> NDArray[np.float32]:
    """Rotate around the centre and shift by shares of the sides, padding with the edge."""
    if not (degrees or right or down):
        return x
    height, width = x.shape[1:]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = [[cos, -sin * height / width, -2 * right], [sin * width / height, cos, -2 * down]]
    grid = F.affine_grid(torch.tensor([matrix], dtype=torch.float32), [1, 1, height, width], align_corners=False)
    moved: NDArray[np.float32] = F.grid_sample(
        torch.from_numpy(x)[None], grid, padding_mode="border", align_corners=False
    )[0].numpy()
    return moved


def _saved(x: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    """Compress and decompress as JPEG."""
    values = np.rint(x * 255).astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    PillowImage.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(file, "JPEG", quality=quality)
    with PillowImage.open(file) as image:
        again = np.asarray(image, np.float32).reshape(values.shape).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(again)
