"""Squared error and PSNR of reconstructions."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Real
from torch import Generator, Tensor

from training.config import CorruptionConfig
from training.images.corruptions import corrupt
from training.images.pixels import to_pixels
from training.restoration.blind import hide

TEST_NOISE_SEED = 20_000  # the noise on the test images, the same for every model and baseline
CHUNK = 500  # images at a time

Images = Float[Tensor, "batch channel height width"]


@torch.no_grad()
def mean_squared_error(
    function: Callable[[Images], Images],
    images: Real[Tensor, "image channel height width"],
    corruption: CorruptionConfig | None,
) -> float:
    """Return the mean over all pixels of (function(x_noisy) - x)², or of (function(x) - x)² if `corruption` is None."""
    generator = Generator().manual_seed(TEST_NOISE_SEED)
    total = 0.0
    for chunk in torch.split(images, CHUNK):
        x = to_pixels(chunk)
        x_in = corrupt(x, corruption, generator) if corruption else x
        total += float((function(x_in) - x).square().sum(dtype=torch.float64))
    return total / images.numel()


def hidden_error(restore: Callable[[Tensor], Tensor], x: Tensor, generator: Generator) -> float:
    """Return the mean squared error over pixels of `x` that were hidden from `restore`."""
    hidden = hide(x, generator)
    return float((restore(hidden.x_in) - x).square()[hidden.mask.expand_as(x)].mean())


def psnr_db(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB for pixels in [0, 1] and mean squared error `mse`, above 0."""
    return -10.0 * math.log10(mse)
