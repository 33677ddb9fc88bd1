"""Blind denoising: training from noisy pictures alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

HIDDEN_SHARE = 0.015  # of pixels in a patch; more would leave too little to predict them from
REACH = 2  # the replacement of a hidden pixel comes from the 5x5 around it

Images = Float[Tensor, "batch _ height width"]


@dataclass(frozen=True)
class Hidden:
    """Pictures with some pixels replaced, and a mask of those pixels, (N, 1, H, W)."""

    x_in: Tensor
    mask: Bool[Tensor, "batch 1 height width"]


def hide(x: Images, generator: Generator) -> Hidden:
    """Replace randomly drawn pixels by a neighbour.

    Krull, Buchholz and Jug, Noise2Void, 2019, https://arxiv.org/abs/1811.10980: a network that predicts hidden pixels
    learns the picture, since noise that is independent from pixel to pixel cannot be predicted. Correlated noise (of a
    JPEG, of a camera's processing) can be predicted, and stays.
    """
    count, _, height, width = x.shape
    shape = (count, 1, height, width)
    mask = torch.rand(shape, generator=generator) < HIDDEN_SHARE
    # One of the 24 others: the middle of the window is left out.
    side = 2 * REACH + 1
    drawn = torch.randint(side * side - 1, shape, generator=generator)
    drawn += (drawn >= side * side // 2).long()
    rows = (torch.arange(height)[:, None] + drawn // side - REACH).clamp(0, height - 1)
    columns = (torch.arange(width) + drawn % side - REACH).clamp(0, width - 1)
    others = x.flatten(2).gather(2, (rows * width + columns).flatten(2).expand(-1, x.shape[1], -1)).reshape(x.shape)
    return Hidden(torch.where(mask, others, x), mask)


def mean_of_neighbours(x: Images) -> Images:
    """Replace every pixel by the mean of the eight around it, the baseline of predictions."""
    kernel = torch.full((x.shape[1], 1, 3, 3), 1 / 8)
    kernel[:, :, 1, 1] = 0
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
