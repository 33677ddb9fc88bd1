"""Building blocks of the convolutional networks."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), starting as the identity.

    He et al., Identity Mappings in Deep Residual Networks, 2016, https://arxiv.org/abs/1603.05027; without
    normalisation and with the last convolution starting at zero (Zhang et al., Fixup, 2019,
    https://arxiv.org/abs/1901.09321), so an output does not depend on the rest of the batch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch width height_ width_"]) -> Float[Tensor, "batch width height_ width_"]:
        out: Tensor = x + self.body(x)
        return out


class GlobalBlock(nn.Module):
    """x + conv1x1(dense(conv1x1(x))), starting as the identity: every pixel sees every other, through `hidden` numbers.

    Convolutions at one scale see a neighbourhood only, but recognising a digit takes the whole image.
    """

    def __init__(self, width: int, *, shape: tuple[int, int], neck: int, hidden: int) -> None:
        super().__init__()
        squeezed = (neck, *shape)
        flat = math.prod(squeezed)
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, neck, 1),
            nn.Flatten(),
            nn.Linear(flat, hidden),
            nn.ReLU(),
            nn.Linear(hidden, flat),
            nn.Unflatten(1, squeezed),
            nn.Conv2d(neck, width, 1),
        )
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch width height_ width_"]) -> Float[Tensor, "batch width height_ width_"]:
        out: Tensor = x + self.body(x)
        return out


def residual_blocks(width: int, count: int) -> nn.Sequential:
    """Return `count` blocks in a row: (N, width, H, W) -> the same shape."""
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def pyramid_step(height: int, width: int, widths: Sequence[int], blocks: Sequence[int]) -> int:
    """Return the total stride of a pyramid whose every level halves the size, in pixels.

    Raises:
        ValueError: The stride does not divide the image, or `widths` and `blocks` differ in length.
    """
    step: int = 2 ** len(widths)
    if height % step or width % step:
        raise ValueError(
            f"{len(widths)} widths halve the image {len(widths)} times: {height}x{width} must be multiples of {step}"
        )
    if len(blocks) != len(widths):
        raise ValueError(f"blocks {list(blocks)} and widths {list(widths)} need the same length")
    return step
