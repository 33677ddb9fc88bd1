"""What the network learns to undo. To add one: a function from clean to corrupted images, and its name below.

Every function takes clean pixels in [0, 1], a generator on the CPU and keyword options, and returns pixels in [0, 1].
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from training.config import CorruptionConfig, RecipeError

Images = Float[Tensor, "batch channel height width"]


def gaussian(x: Images, generator: Generator, *, mean: float = 0.0, sigma: float = 0.1) -> Images:
    """clamp(x + N(mean, sigma), 0, 1), drawn for every pixel and channel."""
    return torch.randn(x.shape, generator=generator).mul_(sigma).add_(mean).add_(x).clamp_(0.0, 1.0)


def none(x: Images, generator: Generator) -> Images:
    """The image as it is: a plain autoencoder."""
    return x


CORRUPTIONS: dict[str, Callable[..., Images]] = {"gaussian": gaussian, "none": none}


def corrupt(x: Images, config: CorruptionConfig, generator: Generator) -> Images:
    """Every image of `x` corrupted, whatever `config.clean_share` says.

    Raises:
        RecipeError: Unknown corruption, or options it does not take.
    """
    if config.name not in CORRUPTIONS:
        raise RecipeError(f"no corruption {config.name!r}; there are {', '.join(sorted(CORRUPTIONS))}")
    try:
        return CORRUPTIONS[config.name](x, generator, **config.options)
    except TypeError as error:
        raise RecipeError(f"corruption {config.name} with options {config.options}: {error}") from error


def training_input(x: Images, config: CorruptionConfig, generator: Generator) -> Images:
    """`x` corrupted, except a share of `config.clean_share` images drawn at random, which stay clean."""
    x_noisy = corrupt(x, config, generator)
    is_clean: Bool[Tensor, "batch 1 1 1"] = torch.rand((len(x), 1, 1, 1), generator=generator) < config.clean_share
    return torch.where(is_clean, x, x_noisy)
