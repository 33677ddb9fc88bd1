"""What pictures are spoiled by before the network has to restore them. To add one: a function and its name below.

Every function takes clean patches (N, C, H, W) in [0, 1] and the standard deviation of each one's noise in 0-255 units,
and returns what the network sees. All are drawn from the generator alone.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PillowImage
from torch import Generator, Tensor

from training.architectures.restorer import SIGMA_UNIT

Images = Float[Tensor, "batch channel height width"]
Sigmas = Float[Tensor, " batch"]

LOWEST_QUALITY, HIGHEST_QUALITY = 60, 95


def gaussian(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """White Gaussian noise, neither clipped nor rounded: what the literature measures."""
    return x + torch.randn(x.shape, generator=generator) * _planes(sigma)


def clipped(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """The same as an 8-bit file can hold it: clipped to black and white, and rounded."""
    return (gaussian(x, sigma, generator).clamp(0.0, 1.0) * SIGMA_UNIT).round() / SIGMA_UNIT


def poisson(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """Signal-dependent noise: its variance grows with the light; `sigma` is that of a mid-grey pixel (0.5).

    Poisson counts by their Gaussian limit, which holds from some ten photons on.
    """
    spread = (x.clamp_min(0.0) / 0.5).sqrt() * _planes(sigma)
    noisy = x + torch.randn(x.shape, generator=generator) * spread
    return (noisy.clamp(0.0, 1.0) * SIGMA_UNIT).round() / SIGMA_UNIT


def jpeg(x: Images, sigma: Sigmas, generator: Generator) -> Images:
    """8-bit noise that was then compressed as JPEG at a quality of 60 to 95."""
    noisy = clipped(x, sigma, generator)
    qualities = torch.randint(LOWEST_QUALITY, HIGHEST_QUALITY + 1, (len(x),), generator=generator)
    files = zip((noisy * SIGMA_UNIT).byte().numpy(), qualities.tolist(), strict=True)
    return torch.stack([_through_jpeg(image, quality) for image, quality in files])


DEGRADATIONS: dict[str, Callable[[Images, Sigmas, Generator], Images]] = {
    "gaussian": gaussian,
    "clipped": clipped,
    "poisson": poisson,
    "jpeg": jpeg,
}


def _planes(sigma: Sigmas) -> Float[Tensor, "batch 1 1 1"]:
    return (sigma / SIGMA_UNIT).reshape(-1, 1, 1, 1)


def _through_jpeg(image: np.ndarray, quality: int) -> Float[Tensor, "channel height width"]:
    file = io.BytesIO()
    PillowImage.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(file, "JPEG", quality=quality)
    values = np.array(PillowImage.open(file), np.float32).reshape(*image.shape[1:], len(image))
    return torch.from_numpy(values / np.float32(SIGMA_UNIT)).permute(2, 0, 1)
