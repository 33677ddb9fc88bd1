"""Other ways to find anomalies, beside which a detector's figures stand. Each learns from the same images.

A peer has `name`, `fit(images)` and `__call__(images) -> (scores (N,), maps (N,H,W))`, images being bytes (N,C,H,W).
"""

from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.loop import to_pixels

Images = UInt8[Tensor, "_ channel height width"]
SMALL_PIXELS = 4096  # of the images that the principal components of pixels are found in


class Peer(Protocol):
    """A way to find anomalies."""

    name: str

    def fit(self, images: Images) -> None:
        """Learn from normal images."""
        ...

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (N,) and maps (N,H,W)."""
        ...


class PixelPca:
    """What the first principal components of the pixels cannot reproduce: an autoencoder that costs nothing."""

    name = "PCA on pixels"

    def __init__(self, components: int = 32) -> None:
        self.components = components

    def fit(self, images: Images) -> None:
        """Components of the training images, at 64x64 or as large as that."""
        x = _small(images).flatten(1)
        self.mean = x.mean(0)
        _, _, directions = torch.linalg.svd(x - self.mean, full_matrices=False)
        self.directions = directions[: min(self.components, max(1, len(x) // 2))]

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean squared residual, and where it is."""
        small = _small(images)
        x = small.flatten(1) - self.mean
        residual = (x - x @ self.directions.T @ self.directions).reshape(small.shape)
        error = residual.square().mean(dim=1, keepdim=True)
        maps = F.interpolate(error, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        return error.mean(dim=(1, 2, 3)).numpy(), maps.numpy()


def _small(images: Images) -> Tensor:
    height, width = images.shape[2:]
    shrink = max(1, round((height * width / SMALL_PIXELS) ** 0.5))
    return F.avg_pool2d(to_pixels(images), shrink)
