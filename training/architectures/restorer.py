"""The network for photographs of any size, conditioned on the noise level, with optional enlargement by `scale`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.architectures.blocks import residual_blocks

SIGMA_UNIT = 255.0  # sigma is given in steps of an 8-bit image; pixels are in [0, 1]

Images = Float[Tensor, "batch _ _ _"]  # (N, C, H, W); heights and widths differ where it enlarges


class Restorer(nn.Module):
    """A fully convolutional U-Net that predicts the residual of its input.

    A level of the network sees half the resolution of the one above. To denoise (`scale=1`), 2x2 pixels are first
    folded into channels, which quarters the cost (Zhang et al., FFDNet, 2018, https://arxiv.org/abs/1710.04026), and a
    plane of constant `sigma` is added if `takes_sigma`. To enhance, the network works on the small image, and its
    residual is unfolded and added to the bicubic enlargement (Shi et al., 2016, https://arxiv.org/abs/1609.05158).

    Args:
        channels: 1 or 3.
        scale: Factor on width and height.
        takes_sigma: Whether `forward` takes the noise level.
        widths: Channels of each level, from the top.
        blocks: Residual blocks of each level, on the way down and again on the way up; once at the lowest.
    """

    def __init__(
        self,
        channels: int,
        *,
        scale: int = 1,
        takes_sigma: bool = True,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (2, 2, 3),
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(f"blocks {list(blocks)} and widths {list(widths)} need the same length")
        self.channels, self.scale, self.takes_sigma = channels, scale, takes_sigma
        self.fold = 2 if scale == 1 else 1
        levels = range(len(widths) - 1)
        self.stem = nn.Conv2d(self.fold**2 * channels + takes_sigma, widths[0], 3, padding=1)
        self.before = nn.ModuleList(residual_blocks(widths[i], blocks[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels)
        self.middle = residual_blocks(widths[-1], blocks[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in levels)
        self.after = nn.ModuleList(residual_blocks(widths[i], blocks[i]) for i in levels)
        self.head = nn.Conv2d(widths[0], (self.fold * scale) ** 2 * channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    @property
    def multiple_of(self) -> int:
        """Divisor of the height and width of inputs."""
        cell: int = self.fold * 2 ** len(self.down)
        return cell

    def forward(self, x: Images, sigma: Float[Tensor, " batch"] | None = None) -> Images:
        """Return the restored images, not clamped: (N, C, scale * H, scale * W).

        Args:
            x: Pixels in [0, 1].
            sigma: Standard deviation of the noise of each image in 0-255 units.
        """
        h = F.pixel_unshuffle(x, self.fold)
        if self.takes_sigma:
            assert sigma is not None  # noqa: S101  for the type checker
            level = (sigma / SIGMA_UNIT).reshape(-1, 1, 1, 1).expand(-1, 1, h.shape[2], h.shape[3])
            h = torch.cat([h, level], dim=1)
        h = self.stem(h)
        skips = []
        for before, down in zip(self.before, self.down, strict=True):
            h = before(h)
            skips.append(h)
            h = down(h)
        h = self.middle(h)
        for up, after, skip in zip(reversed(self.up), reversed(self.after), reversed(skips), strict=True):
            h = after(up(h) + skip)
        added = F.pixel_shuffle(self.head(F.relu(h)), self.fold * self.scale)
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        return x + added


class Clamped(nn.Module):
    """The network for export, with its output clamped to [0, 1]."""

    def __init__(self, network: Restorer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Images, sigma: Float[Tensor, " batch"] | None = None) -> Images:
        """Return the output of `Restorer.forward`, clamped."""
        x_hat: Tensor = self.network(x, sigma) if self.network.takes_sigma else self.network(x)
        return x_hat.clamp(0.0, 1.0)


@torch.enable_grad()
def reach(network: Restorer) -> int:
    """Return the radius of the receptive field in pixels of the input, which is the halo of tiles.

    It is measured on a copy with positive weights, in which no influence cancels or vanishes: the gradient of the
    pixels of one cell of `multiple_of` pixels is zero exactly outside the receptive field.
    """
    copy = Restorer(
        network.channels,
        scale=network.scale,
        takes_sigma=network.takes_sigma,
        widths=[conv[0].body[1].out_channels for conv in network.before] + [network.middle[0].body[1].out_channels],  # type: ignore[union-attr,index]
        blocks=[len(part) for part in network.before] + [len(network.middle)],  # type: ignore[arg-type]
    ).double()
    for parameter in copy.parameters():
        nn.init.constant_(parameter, 1e-3)
    cell = network.multiple_of
    side = 64 * cell
    start = side // 2
    x = torch.ones(1, network.channels, side, side, dtype=torch.float64, requires_grad=True)
    out = copy(x, torch.ones(1, dtype=torch.float64))
    part = slice(start * network.scale, (start + cell) * network.scale)
    (gradient,) = torch.autograd.grad(out[:, :, part, part].sum(), x)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    return int(max(start - rows.min(), rows.max() - (start + cell - 1)))
