"""Corruptions that networks learn to undo. To add one: a function from clean to corrupted images, and its name below.

Every function takes clean pixels in [0, 1], a generator on the CPU and keyword options, and returns pixels in [0, 1].
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor
from torch.nn import functional as F

from training.config import CorruptionConfig, RecipeError

Images = Float[Tensor, "batch channel height width"]


def gaussian(x: Images, generator: Generator, *, mean: float = 0.0, sigma: float = 0.1) -> Images:
    """Return clamp(x + N(mean, sigma), 0, 1), drawn for every pixel and channel."""
    return torch.randn(x.shape, generator=generator).mul_(sigma).add_(mean).add_(x).clamp_(0.0, 1.0)


def none(x: Images, generator: Generator) -> Images:
    """Return the images unchanged, for a plain autoencoder."""
    return x


def permute(x: Images, generator: Generator, *, seed: int = 0) -> Images:
    """Permute the pixels of every image in the same random order, given by `seed`."""
    order = _order(x.shape[2] * x.shape[3], seed)
    return x.flatten(2)[:, :, order].reshape(x.shape)


def rotate(x: Images, generator: Generator, *, degrees: float = 30.0) -> Images:
    """Rotate every image counterclockwise about its centre.

    The edge is repeated outwards, and corners outside the image are cropped.
    """
    angle = math.radians(degrees)
    cosine, sine, aspect = math.cos(angle), math.sin(angle), x.shape[2] / x.shape[3]
    # From output to input in grid_sample's coordinates, whose unit is half the height down and half the width across.
    rows = torch.tensor([[cosine, -sine * aspect, 0.0], [sine / aspect, cosine, 0.0]])
    grid = F.affine_grid(rows.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0.0, 1.0)


def flip(x: Images, generator: Generator) -> Images:
    """Mirror every image horizontally."""
    return x.flip(3)


def one_of(
    x: Images,
    generator: Generator,
    *,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, float | int]] | None = None,
) -> Images:
    """Apply one of several corruptions to every image, chosen at random.

    Args:
        x: Clean images.
        generator: Random number generator of the choice and of the corruptions.
        names: Names of the corruptions, equally likely.
        options: Options of each corruption by name, if they differ from the defaults.
    """
    drawn = torch.randint(len(names), (len(x), 1, 1, 1), generator=generator)
    out = x
    for i, name in enumerate(names):
        config = CorruptionConfig(name=name, options=dict((options or {}).get(name, {})))
        out = torch.where(drawn == i, corrupt(x, config, generator), out)
    return out


CORRUPTIONS: dict[str, Callable[..., Images]] = {
    "flip": flip,
    "gaussian": gaussian,
    "none": none,
    "one_of": one_of,
    "permute": permute,
    "rotate": rotate,
}


def corrupt(x: Images, config: CorruptionConfig, generator: Generator) -> Images:
    """Corrupt every image of `x`, ignoring `config.clean_share`.

    Raises:
        RecipeError: The corruption or one of its options is unknown.
    """
    if config.name not in CORRUPTIONS:
        raise RecipeError(f"no corruption {config.name!r}; there are {', '.join(sorted(CORRUPTIONS))}")
    try:
        return CORRUPTIONS[config.name](x, generator, **config.options)
    except (TypeError, AttributeError) as error:
        raise RecipeError(f"corruption {config.name} with options {config.options}: {error}") from error


@lru_cache(maxsize=4)
def _order(pixels: int, seed: int) -> Int64[Tensor, " pixels"]:
    return torch.randperm(pixels, generator=Generator().manual_seed(seed))


def training_input(x: Images, config: CorruptionConfig, generator: Generator) -> Images:
    """Corrupt `x`, except a random share (`config.clean_share`) of clean images."""
    x_noisy = corrupt(x, config, generator)
    is_clean: Bool[Tensor, "batch 1 1 1"] = torch.rand((len(x), 1, 1, 1), generator=generator) < config.clean_share
    return torch.where(is_clean, x, x_noisy)
