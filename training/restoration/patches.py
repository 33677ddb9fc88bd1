"""Batches of patches of photographs for training, and whole pictures for validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from PIL import Image as PillowImage
from torch import Generator, Tensor

from training.images.pixels import to_pixels
from training.restoration.blind import hide
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import spoil
from training.restoration.photos import Pair, Photo

Images = Float[Tensor, "batch _ _ _"]  # (N, C, H, W)
Sigmas = Float[Tensor, " batch"]
VALIDATION_SIGMA = 25.0  # 0-255 units
UNTOLD = -50.0  # what stands for a level that nobody gives: far from every real one


@dataclass(frozen=True)
class Batch:
    """Inputs, their noise levels, and targets (scale times larger)."""

    x_in: Images
    sigma: Sigmas
    x: Images
    mask: Bool[Tensor, "batch 1 _ _"] | None = None  # the only pixels that are judged; None: all


class Patches:
    """Draws batches from photographs, which are held as bytes at all sizes of the recipe."""

    def __init__(self, pairs: Sequence[Pair], recipe: RestorationRecipe) -> None:
        self._recipe = recipe
        least = recipe.training.patch * recipe.factor
        sizes = recipe.data.sizes if recipe.kind != "restore" else (1.0,)
        pictures = [made for pair in pairs for size in sizes if (made := prepare(pair, recipe, size)) is not None]
        self._pictures = [(small, large) for small, large in pictures if min(large.shape[1:]) >= least]
        areas = torch.tensor([float(large[0].numel()) for _, large in self._pictures])
        self._weights = areas / areas.sum()

    def __len__(self) -> int:
        return len(self._pictures)

    def draw(self, generator: Generator) -> Batch:
        """Draw a batch of patches at random positions, randomly rotated, mirrored and degraded."""
        training = self._recipe.training
        drawn = training.batch_size * training.candidates
        numbers = torch.multinomial(self._weights, drawn, replacement=True, generator=generator)
        places = torch.rand(drawn, 2, generator=generator)
        turns = torch.randint(8, (training.batch_size,), generator=generator)
        crops = [
            _crop(self._pictures[number], place, training.patch, self._recipe.factor)
            for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
        ]
        small, large = [], []
        for i, turn in enumerate(turns.tolist()):
            patch = max(
                crops[i * training.candidates : (i + 1) * training.candidates], key=lambda crop: _detail(crop[1])
            )
            small.append(_turned(patch[0], turn))
            large.append(_turned(patch[1], turn))
        x_in, x = (torch.stack([to_pixels(patch) for patch in patches]) for patches in (small, large))
        return self._spoil(x_in, x, generator)

    def _spoil(self, x_in: Images, x: Images, generator: Generator) -> Batch:
        sigma = torch.rand(len(x), generator=generator) * self._recipe.degradation.max_sigma
        if self._recipe.kind == "blind":
            hidden = hide(x, generator)
            return Batch(hidden.x_in, sigma, x, hidden.mask)
        if self._recipe.kind != "denoise":
            return Batch(x_in, sigma, x)
        noisy, told = spoil(x_in, sigma, self._recipe.degradation.kinds, generator)
        if untold := self._recipe.degradation.untold:
            told = torch.where(torch.rand(len(x), generator=generator) < untold, UNTOLD, told)
        return Batch(noisy, told, x)


def prepare(pair: Pair, recipe: RestorationRecipe, size: float = 1.0) -> tuple[Photo, Photo] | None:
    """Return input and target of a picture, before noise, as bytes.

    Args:
        pair: The picture.
        recipe: Recipe; for enhance, the input is downscaled by Pillow's bicubic filter.
        size: Scale of both, at most 1.
    """
    if recipe.kind == "restore":
        return pair.degraded, pair.clean
    height, width = (int(side * size) // recipe.factor * recipe.factor for side in pair.clean.shape[1:])
    if min(height, width) < 1:
        return None
    large = pair.clean[:, :height, :width] if size == 1.0 else resized(pair.clean, height, width)
    if recipe.factor == 1:
        return large, large
    return resized(large, height // recipe.factor, width // recipe.factor), large


def resized(photo: Photo, height: int, width: int) -> Photo:
    """Resize a picture by Pillow's bicubic filter, which antialiases."""
    planes = [
        np.asarray(PillowImage.fromarray(plane).resize((width, height), PillowImage.Resampling.BICUBIC))
        for plane in photo.numpy()
    ]
    made = torch.from_numpy(np.stack(planes))
    return made if made.dtype == torch.uint8 else made.clamp(0.0, 1.0)  # the filter overshoots


def _crop(pair: tuple[Photo, Photo], place: Sequence[float], side: int, factor: int) -> tuple[Tensor, Tensor]:
    small, large = pair
    top, left = (int(share * (whole - side + 1)) for share, whole in zip(place, small.shape[1:], strict=True))
    at, at_large = (
        (slice(None), slice(top * s, (top + side) * s), slice(left * s, (left + side) * s)) for s in (1, factor)
    )
    return small[at], large[at_large]


def _detail(patch: Real[Tensor, "channel side side"]) -> float:
    """Return the mean difference of neighbours in the green (or only) plane; small for blurred or empty patches."""
    plane = to_pixels(patch[len(patch) // 2])
    return float(plane.diff(dim=0).abs().mean() + plane.diff(dim=1).abs().mean())


def _turned(patch: Real[Tensor, "channel side side"], turn: int) -> Real[Tensor, "channel side side"]:
    if turn & 4:
        patch = patch.transpose(1, 2)
    return patch.flip([axis for axis, is_on in ((1, turn & 1), (2, turn & 2)) if is_on])
