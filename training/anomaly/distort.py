"""Distortions of whole images, in batches: a detector of aligned images learns to undo them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
Distortion = Callable[[Tensor, Tensor, Generator], Tensor]


def distort(x: Images, generator: Generator) -> Images:
    """Distort every image by one of KINDS, equally often by each, in [0, 1].

    Args:
        x: Normal images, pixels in [0, 1].
        generator: The same seed gives the same distortions.
    """
    other = x[torch.randperm(len(x), generator=generator)]
    kinds = list(KINDS.values())
    parts = zip(x.tensor_split(len(kinds)), other.tensor_split(len(kinds)), kinds, strict=True)
    return torch.cat([kind(a, b, generator) if len(a) else a for a, b, kind in parts]).clamp(0.0, 1.0)


def halves(x: Images, other: Images, generator: Generator) -> Images:
    """Combine two images along a line."""
    across, _ = _line(x, generator)
    return torch.where(across > 0, x, other)


def bend(x: Images, other: Images, generator: Generator) -> Images:
    """Warp images by a smooth field, by up to about a quarter of the image."""
    n, _, height, width = x.shape
    field = torch.randn(n, 2, 4, 4, generator=generator) * (0.15 + 0.25 * _uniform(n, generator))
    field = F.interpolate(field, size=(height, width), mode="bicubic", align_corners=True)
    grid = torch.stack(_axes(x)[::-1], dim=-1) + field.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=True)


def turn(x: Images, other: Images, generator: Generator) -> Images:
    """Rotate images by a random angle, mirror half of them, and scale them by up to three tenths."""
    n = len(x)
    angle = (2 * _uniform(n, generator) - 1).flatten() * math.pi
    size = 0.7 + 0.6 * _uniform(n, generator).flatten()
    mirror = torch.where(_uniform(n, generator).flatten() < 0.5, -1.0, 1.0)
    rows = [angle.cos() * mirror, -angle.sin(), torch.zeros(n), angle.sin() * mirror, angle.cos(), torch.zeros(n)]
    matrix = (torch.stack(rows, 1) / size[:, None]).reshape(n, 2, 3)
    return F.grid_sample(x, F.affine_grid(matrix, list(x.shape), align_corners=True), align_corners=True)


def erase(x: Images, other: Images, generator: Generator) -> Images:
    """Blacken regions with the shape of smooth noise."""
    return torch.where(_noise(x, generator) > 0.55, x, 0.0)


def paste(x: Images, other: Images, generator: Generator) -> Images:
    """Replace regions with the shape of smooth noise by another image, shifted by up to a third."""
    shift = [int(torch.randint(-(side // 3), side // 3 + 1, (), generator=generator)) for side in x.shape[2:]]
    moved = torch.where(_noise(x, generator) > 0.6, torch.roll(other, shift, (2, 3)), x)
    keeps_bright = bool(torch.rand((), generator=generator) < 0.5)
    return torch.maximum(x, moved) if keeps_bright else moved


def stroke(x: Images, other: Images, generator: Generator) -> Images:
    """Draw a short thick line, as bright as the image or black."""
    aside, along = _line(x, generator)
    line = ((0.2 - aside.abs()) / 0.08).clamp(0, 1) * ((0.5 - along.abs()) / 0.1).clamp(0, 1)
    bright = torch.maximum(x, line * x.amax((1, 2, 3), keepdim=True))
    return torch.where(_uniform(len(x), generator) < 0.6, bright, x * (1 - line))


KINDS: dict[str, Distortion] = {
    "halves": halves, "bend": bend, "turn": turn, "erase": erase, "paste": paste, "stroke": stroke,
}  # fmt: skip


def _axes(x: Images) -> tuple[Tensor, Tensor]:
    y, across = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in x.shape[2:]), indexing="ij")
    return y, across


def _line(x: Images, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return each pixel's distance from a line near the middle, and position along it: (N,1,H,W) in half images."""
    y, across = _axes(x)
    angle = 2 * math.pi * _uniform(len(x), generator)
    aside_by, along_by = (0.8 * (_uniform(len(x), generator) - 0.5) for _ in range(2))
    aside = across * angle.cos() + y * angle.sin() - aside_by
    return aside, y * angle.cos() - across * angle.sin() - along_by


def _noise(x: Images, generator: Generator) -> Tensor:
    noise = torch.rand(len(x), 1, 5, 5, generator=generator)
    height, width = int(x.shape[2]), int(x.shape[3])
    return F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=True)


def _uniform(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, 1, 1, 1, generator=generator)
