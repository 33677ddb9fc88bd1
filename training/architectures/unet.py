"""U-Net: a denoiser with skip connections around the bottleneck."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from training.architectures.blocks import GlobalBlock, pyramid_step, residual_blocks


class UNet(nn.Module):
    """An encoder and decoder joined by skips at every scale: the best pictures, but no latent.

    Ronneberger et al., U-Net, 2015, https://arxiv.org/abs/1505.04597, with skips that are added, the residual blocks
    of `blocks.py`, and space folded into channels first. With `hidden`, a dense block in the middle of the smallest
    level sees the whole image, and the network takes one size only. For widths (64, 128) and 28x28:

        x (N,1,28,28) ->[ unshuffle, conv ]-> (N,64,14,14) ->[ residual ]------- + ->[ residual, conv, shuffle ]-> x_hat
                                                       [ conv stride 2 ]         [ transposed conv ]
                                                             (N,128,7,7) ->[ residual ]
    """

    latent_dim = None

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        *,
        widths: Sequence[int] = (64, 128),
        blocks: Sequence[int] = (2, 4),
        neck: int = 16,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        step = pyramid_step(height, width, widths, blocks)
        levels = range(len(widths) - 1)
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, widths[0], 3, padding=1))
        self.before = nn.ModuleList(residual_blocks(widths[i], blocks[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels)
        self.middle = residual_blocks(widths[-1], blocks[-1])
        if hidden:
            top = (height // step, width // step)
            self.middle.insert(blocks[-1] // 2, GlobalBlock(widths[-1], shape=top, neck=neck, hidden=hidden))
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in levels)
        self.after = nn.ModuleList(residual_blocks(widths[i], blocks[i]) for i in levels)
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(widths[0], 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()
        )

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        h = self.stem(x)
        skips = []
        for before, down in zip(self.before, self.down, strict=True):
            h = before(h)
            skips.append(h)
            h = down(h)  # half the height and width
        h = self.middle(h)
        for up, after, skip in zip(reversed(self.up), reversed(self.after), reversed(skips), strict=True):
            h = after(up(h) + skip)
        x_hat: Tensor = self.head(h)
        return x_hat
