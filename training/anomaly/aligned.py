"""A small detector, without a backbone, for images of one size with centred subjects, such as digits."""

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomaly.distort import distort
from training.anomaly.features import GradientCells
from training.images.pixels import to_pixels
from training.randomness import generator_for
from training.trainer import descend_on

SMALLEST_CELL, MOST_CELLS = 4, 16  # pixels, and cells along the longer side
HIDDEN, LATENT = 256, 32
BATCH_SIZE, LEARNING_RATE = 96, 4e-3
FEWEST_STEPS, MOST_STEPS, PASSES = 100, 1500, 50  # passes over the images, within those limits
CHUNK = 256  # images at once through the features

Images = Float[Tensor, "batch channel height width"]


class AlignedDetector(nn.Module):
    """x (N,C,H,W) in [0, 1] -> score (N,), map (N,H,W); larger means less like the training images.

    x ->[ GradientCells ]-> f (N,8,rows,columns) ->[ dense denoising autoencoder ]-> f_hat, that of the normal image
    which explains f best. map: root mean square of f - f_hat over the 8 directions, enlarged; score: root mean square
    over all cells as well. Both are in standard deviations of f.

    A small network cannot reproduce unknown shapes. An empty image, which scores low by the error of pixels, lacks the
    edges of f_hat and so scores high here.
    """

    description = (
        "root mean square, over cells and directions, of what an autoencoder of normal images' oriented gradients "
        "cannot reproduce"
    )
    mean: Tensor
    scale: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        cell = SMALLEST_CELL * max(1, -(-max(height, width) // (SMALLEST_CELL * MOST_CELLS)))
        self.features = GradientCells(cell)
        self.cells = (-(-height // cell), -(-width // cell))
        numbers = self.features.channels * self.cells[0] * self.cells[1]
        self.encoder = nn.Sequential(nn.Linear(numbers, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, numbers))
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Images) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch height width"]]:
        f = self.standardised(x)
        square = (f - self.reconstruct(f)).square().reshape(-1, self.features.channels, *self.cells).mean(dim=1)
        size = [side * self.features.cell for side in self.cells]
        enlarged = F.interpolate(square.sqrt()[:, None], size=size, mode="bilinear", align_corners=False)
        return square.mean(dim=(1, 2)).sqrt(), enlarged[:, 0, : x.shape[2], : x.shape[3]]

    def standardised(self, x: Images) -> Float[Tensor, "batch number"]:
        """Return the features less their mean over training images, in standard deviations."""
        f: Tensor = (self.features(x).flatten(1) - self.mean) / self.scale
        return f

    def reconstruct(self, f: Float[Tensor, "batch number"]) -> Float[Tensor, "batch number"]:
        """Return standardised features through the autoencoder."""
        f_hat: Tensor = self.decoder(self.encoder(f))
        return f_hat


def learn_aligned_detector(
    train: Real[Tensor, "_ channel height width"], *, seed: int, progress: bool = True
) -> AlignedDetector:
    """Train a detector. Return it in evaluation mode on the CPU.

    Half of every batch are normal images, half are distorted ones (see `distort.py`). The target is the features of
    the normal image in both cases; the loss is the mean squared error, minimised by Adam. The same images and seed
    give the same weights on one machine.

    Args:
        train: Normal images, bytes.
        seed: Seed of all random numbers.
        progress: Show a progress bar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = AlignedDetector(int(train.shape[2]), int(train.shape[3]))
    with torch.no_grad():
        f = torch.cat([detector.standardised(to_pixels(chunk)) for chunk in torch.split(train, CHUNK)])
        detector.mean.copy_(f.mean(0))
        detector.scale.copy_((f - detector.mean).square().mean().sqrt().clamp_min(1e-3))
    generator = generator_for(seed, 7)
    steps = steps_for(len(train))
    optimiser = torch.optim.Adam(detector.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)

    def loss() -> Tensor:
        x = to_pixels(train[torch.randint(len(train), (BATCH_SIZE,), generator=generator)])
        with torch.no_grad():
            normal = detector.standardised(x)
            distorted = detector.standardised(distort(x, generator))
        f_hat = detector.reconstruct(torch.cat([normal, distorted]))
        return F.mse_loss(f_hat, torch.cat([normal, normal]))

    descend_on(loss, schedule, steps=steps, name="detector", progress=progress)
    return detector.eval().requires_grad_(False)


def steps_for(images: int) -> int:
    """Return the number of steps for a number of images."""
    return min(MOST_STEPS, max(FEWEST_STEPS, PASSES * images // BATCH_SIZE))
