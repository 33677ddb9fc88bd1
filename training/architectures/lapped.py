"""An autoencoder of planes of photographs whose latent is a grid: one column of 64 numbers per 8x8 pixels."""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from service.contract.plane_coder import frequencies
from service.contract.tables import CELL, CHANNELS
from training.architectures.codec import SMALLEST_PROBABILITY

MARGIN = 4  # pixels that a block sees beyond its own on each side, once training wants that
COMPONENTS = 2  # logistic distributions in the prior of one channel
SHRINK = 0.1  # of what is rounded, towards zero: zeros are cheap, and this costs less than it errs

Planes = Float[Tensor, "batch 1 _ _"]
Grid = Float[Tensor, "batch _ _ _"]


def cosines() -> Float[Tensor, "channel 1 side side"]:
    """Return the orthonormal DCT of an 8x8 block as kernels with a margin of zeros, in the order of `frequencies`."""
    at = np.arange(CELL)
    rows = np.cos(np.pi * (at[None] + 0.5) * at[:, None] / CELL) * math.sqrt(2.0 / CELL)
    rows[0] /= math.sqrt(2.0)
    kernels = np.stack([np.outer(rows[v], rows[h]) for v, h in frequencies()])
    padded = np.pad(kernels, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    return torch.from_numpy(padded[:, None]).float()


class LappedAutoencoder(nn.Module):
    """x -> y -> symbols -> x_hat for planes of any size that 8 divides.

    It begins as JPEG's transform (Ahmed, Natarajan and Rao, Discrete Cosine Transform, 1974) with one step of
    quantisation for all frequencies. Training for squared error plus lambda times bits (as `codec.Codec`) lets kernels
    grow over the edges of blocks (Malvar, Lapped transforms, 1990), and a small network after them removes blocking
    artifacts (Dong et al., Compression Artifacts Reduction by a Deep Convolutional Network, 2015).

        x (N,1,H,W) ->[ conv 16x16, stride 8, / step ]-> y (N,64,H/8,W/8) ->[ round ]-> symbols
        symbols ->[ * step, transposed conv 16x16, stride 8 ]-> (N,1,H,W) ->[ + 3x3 convs at half the size ]-> x_hat

    Args:
        steps: Steps of quantisation, for pixels in [0, 1]: one per rate of luma, falling, and as many for chroma.
        width: Channels of the small network.
        depth: Convolutions of the small network.
    """

    multiple_of = CELL

    def __init__(self, steps: tuple[float, ...], *, width: int = 32, depth: int = 6) -> None:
        super().__init__()
        self.analysis = nn.Parameter(cosines())
        self.synthesis = nn.Parameter(cosines())
        self.steps: Tensor  # (rate,)
        self.register_buffer("steps", torch.tensor(steps))
        sides = [5, *[width] * (depth - 1), 4]  # four pixels and the step; four pixels
        self.refine = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(sides))
        for parameter in self.refine[-1].parameters():  # at first it changes nothing
            nn.init.zeros_(parameter)
        self.weight = nn.Parameter(torch.zeros(len(steps), CHANNELS, COMPONENTS))
        spread = torch.tensor([0.25, 1.0]).repeat(len(steps), CHANNELS, 1)
        self.log_scale = nn.Parameter(spread.log())

    def encode(self, x: Planes, rate: Int64[Tensor, " batch"]) -> Grid:
        """Return y, which `shrunk` and rounding turn into symbols."""
        wide = functional.pad(x - 0.5, (MARGIN,) * 4, mode="reflect")
        return functional.conv2d(wide, self.analysis, stride=CELL) / self._step(rate)

    def decode(self, symbols: Grid, rate: Int64[Tensor, " batch"]) -> Planes:
        step = self._step(rate)
        plain = functional.conv_transpose2d(symbols * step, self.synthesis, stride=CELL, padding=MARGIN) + 0.5
        h = functional.pixel_unshuffle(plain, 2)
        h = torch.cat([h, (8.0 * step).expand(-1, -1, *h.shape[2:])], 1)
        for i, layer in enumerate(self.refine):
            h = layer(functional.relu(h) if i else h)
        return plain + functional.pixel_shuffle(h, 2)

    def bits(self, y: Grid, rate: Int64[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the bits of y by a prior per channel.

        Channel 0, the mean of a block, is coded as the difference from the block to its left.
        """
        mean = y[:, :1] - functional.pad(y[:, :1, :, :-1], (1, 0))
        y = torch.cat([mean, y[:, 1:]], 1)
        shares, inverse = self.weight[rate].softmax(-1), torch.exp(-self.log_scale[rate])  # (N, 64, components)
        far = y.abs()
        probability = torch.zeros_like(y)
        for i in range(COMPONENTS):
            share, narrow = shares[:, :, i, None, None], inverse[:, :, i, None, None]
            inside = torch.sigmoid((0.5 - far) * narrow) - torch.sigmoid((-0.5 - far) * narrow)
            probability = probability + share * inside
        return -probability.clamp_min(SMALLEST_PROBABILITY).log2().flatten(1).sum(1)

    def forward(
        self, x: Planes, rate: Int64[Tensor, " batch"], noise: Grid | None = None
    ) -> tuple[Planes, Float[Tensor, " batch"]]:
        """Return x_hat and its bits. In training, uniform `noise` in [0, 1) replaces rounding for the bits."""
        y = self.encode(x, rate)
        rounded = y + (shrunk(y).round() - y).detach()
        counted = rounded if noise is None else y + noise - 0.5
        return self.decode(rounded, rate), self.bits(counted, rate)

    def _step(self, rate: Int64[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
        return self.steps[rate][:, None, None, None]


def shrunk(y: Grid) -> Grid:
    """Shrink y towards zero, except channel 0, the mean of a block."""
    return torch.cat([y[:, :1], functional.softshrink(y[:, 1:], SHRINK)], 1)


class Compress(nn.Module):
    """x (N,1,H,W), rate (N,) -> y (N,64,H/8,W/8), to be rounded. Rates are clamped to those that exist."""

    def __init__(self, network: LappedAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Planes, rate: Float[Tensor, " batch"]) -> Grid:
        return shrunk(self.network.encode(x, _index(rate, self.network)))


class Decompress(nn.Module):
    """symbols (N,64,rows,columns), rate (N,) -> x_hat (N,1,8*rows,8*columns), in [0, 1]."""

    def __init__(self, network: LappedAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, symbols: Grid, rate: Float[Tensor, " batch"]) -> Planes:
        return self.network.decode(symbols, _index(rate, self.network)).clamp(0.0, 1.0)


def reach(network: LappedAutoencoder) -> int:
    """Return the largest distance of a pixel of x_hat from a symbol it depends on, in pixels, as whole blocks."""
    refined = 2 * len(network.refine) + 1  # convolutions at half the size
    return -(-(refined + MARGIN) // CELL) * CELL + CELL


def _index(rate: Float[Tensor, " batch"], network: LappedAutoencoder) -> Int64[Tensor, " batch"]:
    return rate.long().clamp(0, len(network.log_scale) - 1)
