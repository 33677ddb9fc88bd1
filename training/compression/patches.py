"""Planes of photographs, and batches of patches of them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Generator, Tensor

from service.contract.colour import to_planes
from training.compression.photo_config import PhotoCodecRecipe
from training.images.pixels import to_pixels
from training.restoration.photos import Pair, Photo

Planes = UInt8[Tensor, "batch 1 _ _"]
Plane = UInt8[Tensor, "_ _"]


def planes_of(photo: Photo) -> list[Plane]:
    """Return luma and chroma of a photograph as bytes."""
    return [
        torch.from_numpy(np.rint(np.clip(plane, 0.0, 1.0) * 255.0).astype(np.uint8))
        for plane in to_planes(to_pixels(photo).numpy())
    ]


class Patches:
    """Draws batches: the first half of one from luma planes, the rest from chroma."""

    def __init__(self, pairs: Sequence[Pair], recipe: PhotoCodecRecipe) -> None:
        self._rates, self._side = recipe.rates, recipe.training.patch
        planes = [planes_of(pair.clean) for pair in pairs]
        self._luma = [luma for luma, *_ in planes if min(luma.shape) >= self._side]
        self._chroma = [plane for _, *chroma in planes for plane in chroma if min(plane.shape) >= self._side]

    def __len__(self) -> int:
        return min(len(self._luma), len(self._chroma))

    def draw(self, count: int, generator: Generator) -> tuple[Planes, Int64[Tensor, " batch"]]:
        """Draw patches at random positions, half of them mirrored, with a random rate for each."""
        patches = [self._patch(self._luma if 2 * i < count else self._chroma, generator) for i in range(count)]
        rate = torch.randint(self._rates, (count,), generator=generator)
        rate[-(-count // 2) :] += self._rates
        return torch.stack(patches)[:, None], rate

    def _patch(self, planes: list[Plane], generator: Generator) -> Plane:
        plane = planes[int(torch.randint(len(planes), (), generator=generator))]
        top, left = (int(torch.randint(side - self._side + 1, (), generator=generator)) for side in plane.shape)
        patch = plane[top : top + self._side, left : left + self._side]
        return patch.flip(1) if torch.rand((), generator=generator) < 0.5 else patch
