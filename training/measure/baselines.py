"""Baselines without training, to compare every trained network with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from training.config import CorruptionConfig
from training.images.corruptions import corrupt
from training.images.pixels import to_pixels

LARGEST_LINEAR = 4096  # pixels; the covariance of larger images would not fit beside them
TRAINING_NOISE_SEED = 10_000
CHUNK = 1000  # images at a time
SMALL_PIXELS = 4096  # of the images that the principal components of pixels are found in

Images = Float[Tensor, "batch channel height width"]
Bytes = Real[Tensor, "image channel height width"]
Matrix = Float[Tensor, "rows columns"]


def median_filter(x: Images) -> Images:
    """Return every pixel replaced by the median of the 3x3 pixels around it; edges repeat."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (N, C, H, W, 9)
    return windows.median(dim=-1).values


@dataclass(frozen=True)
class LinearMap:
    """x_hat = (x - mean_in) @ matrix + mean_out on flattened images."""

    mean_in: Float[Tensor, " pixels"]
    mean_out: Float[Tensor, " pixels"]
    matrix: Float[Tensor, "pixels pixels"]

    def __call__(self, x: Images) -> Images:
        flat = (x.flatten(1).double() - self.mean_in) @ self.matrix + self.mean_out
        return flat.float().reshape(x.shape)


def reduced_rank_regression(
    images: Bytes, corruption: CorruptionConfig | None, rank: int, *, progress: bool = False
) -> LinearMap:
    """Return the linear map of `rank` from corrupted to clean images with the least squared error.

    Without a corruption it is PCA.

    Izenman, Reduced-rank regression for the multivariate linear model, 1975,
    https://doi.org/10.1016/0047-259X(75)90042-1: ordinary least squares, projected on the principal directions of its
    own predictions.

    Args:
        images: Clean training images, (N, C, H, W).
        corruption: Corruption of the input, drawn once per image; None for clean inputs.
        rank: Rank of the map, the size of its latent.
        progress: Show a progress bar.
    """
    generator = Generator().manual_seed(TRAINING_NOISE_SEED)
    pixels = images[0].numel()
    sums = torch.zeros(2, pixels, dtype=torch.float64)
    products = torch.zeros(2, pixels, pixels, dtype=torch.float64)  # in'in and in'out
    bar = tqdm(torch.split(images, CHUNK), desc="linear baseline", unit="kimg", disable=not progress)
    for chunk in bar:
        x = to_pixels(chunk)
        x_in = corrupt(x, corruption, generator) if corruption else x
        inputs, outputs = x_in.flatten(1).double(), x.flatten(1).double()
        sums += torch.stack([inputs.sum(0), outputs.sum(0)])
        products += torch.stack([inputs.T @ inputs, inputs.T @ outputs])
    mean_in, mean_out = sums / len(images)
    covariance = products[0] / len(images) - torch.outer(mean_in, mean_in)
    cross = products[1] / len(images) - torch.outer(mean_in, mean_out)
    ridge = 1e-9 * covariance.trace() / pixels  # pixels that never change have no variance
    least_squares = torch.linalg.solve(covariance + ridge * torch.eye(pixels, dtype=torch.float64), cross)
    directions = torch.linalg.eigh(cross.T @ least_squares).eigenvectors[:, -rank:]  # of the predictions' covariance
    return LinearMap(mean_in, mean_out, least_squares @ directions @ directions.T)


def denoising_baselines(
    train: Bytes, corruption: CorruptionConfig, rank: int | None, *, progress: bool
) -> dict[str, Callable[[Images], Images]]:
    """Return the baseline denoisers by name; the linear one only for images that are small enough."""
    functions: dict[str, Callable[[Images], Images]] = {"noisy input": lambda x: x, "median 3x3": median_filter}
    if rank and train[0].numel() <= LARGEST_LINEAR:
        linear = reduced_rank_regression(train, corruption, rank, progress=progress)
        functions[f"best linear map of rank {rank}, clamped"] = lambda x: linear(x).clamp(0.0, 1.0)
    return functions


class PixelPca:
    """Reconstruction error of PCA on pixels, the baseline of anomaly scores."""

    name = "PCA on pixels"

    def __init__(self, components: int = 32) -> None:
        self.components = components

    def fit(self, images: Bytes) -> None:
        """Compute the components of the training images, reduced to at most 64x64 pixels."""
        x = _small(images).flatten(1)
        self.mean = x.mean(0)
        _, _, directions = torch.linalg.svd(x - self.mean, full_matrices=False)
        self.directions = directions[: min(self.components, max(1, len(x) // 2))]
        self.size = self.directions.numel()  # floats

    def __call__(self, images: Bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean squared residual of each image, and its map."""
        small = _small(images)
        x = small.flatten(1) - self.mean
        residual = (x - x @ self.directions.T @ self.directions).reshape(small.shape)
        error = residual.square().mean(dim=1, keepdim=True)
        maps = F.interpolate(error, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        return error.mean(dim=(1, 2, 3)).numpy(), maps.numpy()


def _small(images: Bytes) -> Tensor:
    height, width = images.shape[2:]
    shrink = max(1, round((height * width / SMALL_PIXELS) ** 0.5))
    return F.avg_pool2d(to_pixels(images), shrink)
