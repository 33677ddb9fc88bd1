"""Latents of images, and statistics of the latent space."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Real, UInt8
from torch import Tensor

from service.contract.sections import MAX_EXAMPLES, Examples, Latent
from training.images.pixels import to_pixels

CHUNK = 500  # images at a time
MOST_DIRECTIONS = 32  # more than anybody turns; the manifest stays readable
DECIMALS = 4  # of examples: a thousandth of a pixel on the map

Bytes = Real[Tensor, "_ channel height width"]
Labels = UInt8[Tensor, "_"]


@torch.no_grad()
def latents(encode: Callable[[Tensor], Tensor], images: Bytes) -> Float[Tensor, "_ latent"]:
    """Encode images in order, (N, D)."""
    return torch.cat([encode(to_pixels(chunk)) for chunk in torch.split(images, CHUNK)])


def describe(z: Float[Tensor, "image latent"]) -> Latent:
    """Compute mean and deviation of the training latents, by latent and by principal direction."""
    mean, directions = principal_components(z, MOST_DIRECTIONS)
    spread = ((z - mean) @ directions).std(0)
    return Latent(
        dim=z.shape[1],
        mean=tuple(mean.tolist()),
        std=tuple(z.std(0).tolist()),
        directions=tuple(tuple(column) for column in directions.T.tolist()),
        spread=tuple(spread.tolist()),
    )


def examples(encode: Callable[[Tensor], Tensor], images: Bytes, labels: Labels) -> Examples:
    """Return latents and labels of the first test images, for the map."""
    z = latents(encode, images[:MAX_EXAMPLES])
    rows = tuple(tuple(round(value, DECIMALS) for value in row) for row in z.tolist())
    return Examples(labels=tuple(str(label) for label in labels[:MAX_EXAMPLES].tolist()), latents=rows)


def principal_components(
    x: Float[Tensor, "_ feature"], count: int
) -> tuple[Float[Tensor, " feature"], Float[Tensor, "feature _"]]:
    """Return the mean and, as columns, the `count` directions of largest variance, longest first.

    The sign of each makes its largest entry positive.
    """
    mean = x.mean(0)
    centred = (x - mean).double()
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :count].float()
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return mean, directions * largest.sign()
