"""Peers of the detector for small images with centred subjects."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomaly.aligned import BATCH_SIZE, CHUNK, HIDDEN, LATENT, SMALLEST_CELL, steps_for
from training.anomaly.features import GradientCells
from training.images.pixels import to_pixels
from training.randomness import generator_for
from training.trainer import descend_on

Images = Real[Tensor, "_ channel height width"]
Scores = Float[Tensor, " image"]


class SmallPeer(ABC):
    """A method that learns from normal images and scores others: higher is less like them.

    Attributes:
        name: Name in tables.
        numbers: Number of stored parameters.
    """

    name: str
    numbers: int

    @abstractmethod
    def fit(self, images: Images, seed: int) -> None:
        """Learn from normal images."""

    @abstractmethod
    def __call__(self, images: Images) -> Scores:
        """Return the scores of images."""


class PixelAutoencoder(SmallPeer):
    """Mean squared error of an autoencoder on pixels, with the size and training of the detector's."""

    name = "autoencoder of pixels, squared error"

    def fit(self, images: Images, seed: int) -> None:
        pixels = images[0].numel()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(pixels, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, LATENT), nn.Linear(LATENT, HIDDEN), nn.GELU(),
                nn.Linear(HIDDEN, pixels), nn.Sigmoid(),
            )  # fmt: skip
        generator, steps = generator_for(seed, 7), steps_for(len(images))
        optimiser = torch.optim.Adam(self.network.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)

        def loss() -> Tensor:
            x = to_pixels(images[torch.randint(len(images), (BATCH_SIZE,), generator=generator)]).flatten(1)
            return F.mse_loss(self.network(x), x)

        descend_on(loss, schedule, steps=steps, name=self.name, progress=False)
        self.numbers = sum(p.numel() for p in self.network.parameters())

    @torch.no_grad()
    def __call__(self, images: Images) -> Scores:
        parts = [to_pixels(part).flatten(1) for part in torch.split(images, CHUNK)]
        return torch.cat([(self.network(x) - x).square().mean(1) for x in parts])


class ProbabilisticPca(SmallPeer):
    """Minus the log-likelihood under a Gaussian of a few directions and noise (Tipping and Bishop 1999).

    Args:
        sees_gradients: Use the detector's features instead of pixels.
        directions: Number of directions.
    """

    def __init__(self, *, sees_gradients: bool, directions: int) -> None:
        self.sees_gradients, self.directions = sees_gradients, directions
        self.name = f"probabilistic PCA of {'the same gradients' if sees_gradients else 'pixels'}"

    def fit(self, images: Images, seed: int) -> None:
        f = seen(images, gradients=self.sees_gradients).double()
        self.mean = f.mean(0)
        variances, directions = torch.linalg.eigh((f - self.mean).T @ (f - self.mean) / len(f))
        variances, directions = variances.flip(0), directions.flip(1)
        self.kept, self.variances = directions[:, : self.directions], variances[: self.directions]
        self.noise = variances[self.directions :].mean()
        self.numbers = self.mean.numel() + self.kept.numel()

    def __call__(self, images: Images) -> Scores:
        off = seen(images, gradients=self.sees_gradients).double() - self.mean
        along = off @ self.kept
        rest = off.square().sum(1) - along.square().sum(1)
        distance: Scores = ((along.square() / self.variances).sum(1) + rest / self.noise).float()
        return distance


class NearestGradients(SmallPeer):
    """Distance to the nearest of some training images, by the detector's features."""

    name = "nearest of 2,000 images by the same gradients"

    def __init__(self, entries: int = 2000) -> None:
        self.entries = entries

    def fit(self, images: Images, seed: int) -> None:
        kept = torch.randperm(len(images), generator=generator_for(seed, 8))[: self.entries]
        self.bank = seen(images[kept], gradients=True)
        self.numbers = self.bank.numel()

    def __call__(self, images: Images) -> Scores:
        parts = torch.split(images, CHUNK)
        return torch.cat([torch.cdist(seen(part, gradients=True), self.bank).amin(1) for part in parts])


@torch.no_grad()
def seen(images: Images, *, gradients: bool) -> Float[Tensor, "image number"]:
    """Return the inputs of a peer: pixels in [0, 1], or the features of `AlignedDetector` before centring."""
    features = GradientCells(SMALLEST_CELL) if gradients else nn.Identity()
    return torch.cat([features(to_pixels(part)).flatten(1) for part in torch.split(images, CHUNK)])
