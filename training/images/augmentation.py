"""Augmentation: training images, slightly transformed at random."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from training.config import AugmentationConfig

Images = Float[Tensor, "batch channel height width"]


def augment(x: Images, config: AugmentationConfig, generator: Generator) -> Images:
    """Rotate, scale, shear and shift a random share (`config.share`) of the images, and return all of them.

    Every amount is drawn uniformly between its negative and positive limit. The edge is repeated outwards.

    Args:
        x: Pixels in [0, 1].
        config: Limits of the transforms.
        generator: Random number generator, on the CPU.
    """
    if config.share == 0.0:
        return x
    n, _, height, width = x.shape
    amounts = 2.0 * torch.rand((n, 5), generator=generator) - 1.0
    limits = torch.tensor(
        [math.radians(config.rotate_degrees), config.scale, config.shear, config.shift_pixels, config.shift_pixels]
    )
    angle, scale, shear, right, down = (amounts * limits).unbind(1)
    cosine, sine, size = angle.cos(), angle.sin(), 1.0 + scale
    aspect = height / width  # grid_sample's unit is half the height downwards but half the width to the right
    # Rows of the inverse map, from output to input, in grid_sample's coordinates (-1 ... 1 over the image).
    rows = [
        torch.stack([cosine / size, (shear * cosine - sine) / size * aspect, 2.0 * right / width], dim=1),
        torch.stack([sine / size / aspect, (shear * sine + cosine) / size, 2.0 * down / height], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0.0, 1.0)
    is_moved = torch.rand((n, 1, 1, 1), generator=generator) < config.share
    return torch.where(is_moved, moved, x)
