"""Anomalies made from normal images: what a detector's settings are chosen by, since real defects are not known.

To add one: a function in KINDS. Each gets one image (C,H,W) in [0,1], another normal image and a generator, and returns
the spoiled image and where it differs.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

Image = Float[Tensor, "channel height width"]
Mask = Bool[Tensor, "height width"]
Spoil = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]


def synthesise(
    x: Float[Tensor, "batch channel height width"], generator: Generator
) -> tuple[Float[Tensor, "batch channel height width"], Bool[Tensor, "batch height width"]]:
    """Every image with one anomaly of a kind drawn by the generator, and where it is.

    Args:
        x: Normal images, pixels in [0, 1], at least one.
        generator: The same seed gives the same anomalies.
    """
    spoiled, masks = [], []
    kinds = list(KINDS.values())
    for image in x:
        kind = kinds[_integer(0, len(kinds), generator)]
        other = x[_integer(0, len(x), generator)]
        image_hat, mask = kind(image, other, generator)
        spoiled.append(image_hat.clamp(0.0, 1.0))
        masks.append(mask)
    return torch.stack(spoiled), torch.stack(masks)


def cut_paste(x: Image, other: Image, generator: Generator) -> tuple[Image, Mask]:
    """A piece of another normal image, brightness shifted, in another place (Li et al. 2021, arXiv 2104.04015)."""
    mask, (top, left, height, width) = _box(x, generator, 0.08, 0.3)
    rows, columns = x.shape[1:]
    from_top, from_left = _integer(0, rows - height + 1, generator), _integer(0, columns - width + 1, generator)
    piece = other[:, from_top : from_top + height, from_left : from_left + width]
    shift = _uniform(-0.2, 0.2, generator)
    result = x.clone()
    result[:, top : top + height, left : left + width] = piece + shift
    return result, mask


def blotch(x: Image, other: Image, generator: Generator) -> tuple[Image, Mask]:
    """A region with the shape of smooth noise, blended towards one colour."""
    mask = _noise_mask(x, generator)
    colour = torch.rand(x.shape[0], 1, 1, generator=generator)
    strength = _uniform(0.25, 0.8, generator)
    return torch.where(mask, x + strength * (colour - x), x), mask


def texture(x: Image, other: Image, generator: Generator) -> tuple[Image, Mask]:
    """A region with the shape of smooth noise that shows another normal image upside down.

    DRAEM does so with pictures of textures (Zavrtanik et al. 2021, arXiv 2108.07610).
    """
    mask = _noise_mask(x, generator)
    strength = _uniform(0.4, 1.0, generator)
    return torch.where(mask, x + strength * (other.flip(1, 2) - x), x), mask


def scratch(x: Image, other: Image, generator: Generator) -> tuple[Image, Mask]:
    """A thin straight line, brighter or darker."""
    rows, columns = x.shape[1:]
    y, across = torch.meshgrid(torch.arange(rows) / rows, torch.arange(columns) / columns, indexing="ij")
    angle = torch.tensor(_uniform(0.0, 3.1416, generator))
    dy, dx = y - _uniform(0.25, 0.75, generator), across - _uniform(0.25, 0.75, generator)
    along, aside = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    thickness = max(1.0 / min(rows, columns), _uniform(0.004, 0.02, generator))
    mask = (along.abs() < _uniform(0.06, 0.25, generator)) & (aside.abs() <= thickness)
    shift = _uniform(0.15, 0.5, generator) * (1 if _uniform(0.0, 1.0, generator) < 0.5 else -1)
    return torch.where(mask, x + shift, x), mask


KINDS: dict[str, Spoil] = {"cut_paste": cut_paste, "blotch": blotch, "texture": texture, "scratch": scratch}


def _noise_mask(x: Image, generator: Generator) -> Mask:
    rows, columns = x.shape[1:]
    cells = 2 ** _integer(1, 4, generator)  # 2, 4 or 8 across
    noise = torch.rand(1, 1, cells + 1, cells + 1, generator=generator)
    smooth = F.interpolate(noise, size=(rows, columns), mode="bicubic", align_corners=True)[0, 0]
    box, _ = _box(x, generator, 0.15, 0.5)
    high = smooth >= smooth[box].quantile(0.6)
    return high & box


def _box(x: Image, generator: Generator, least: float, most: float) -> tuple[Mask, tuple[int, int, int, int]]:
    rows, columns = x.shape[1:]
    height = max(2, round(rows * _uniform(least, most, generator)))
    width = max(2, round(columns * _uniform(least, most, generator)))
    top, left = _integer(0, rows - height + 1, generator), _integer(0, columns - width + 1, generator)
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask, (top, left, height, width)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: Generator) -> int:
    return int(torch.randint(low, high, (), generator=generator))
