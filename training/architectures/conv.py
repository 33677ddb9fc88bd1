"""Residual convolutional autoencoder with a true bottleneck."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from training.architectures.blocks import pyramid_step, residual_blocks


class ConvAutoencoder(nn.Module):
    """Residual convolutions on a pyramid, then two dense layers to `latent_dim` numbers, without skips.

    Masci et al., Stacked Convolutional Auto-Encoders, 2011, https://doi.org/10.1007/978-3-642-21735-7_7, with the
    residual blocks of `blocks.py`. Space becomes channels first (Shi et al., 2016,
    https://arxiv.org/abs/1609.05158), so no convolution runs at full size; a 1x1 convolution to `neck` channels keeps
    the dense layers small. For widths (32, 64) and 28x28:

        x (N,1,28,28) ->[ unshuffle, conv ]-> (N,32,14,14) ->[ residual, conv stride 2 ]-> (N,64,7,7)
          ->[ residual, conv 1x1 ]-> (N,neck,7,7) ->[ linear ]-> (N,hidden) ->[ linear ]-> z (N,latent_dim)
        z ->[ linear ]-> (N,hidden) ->[ linear ]-> (N,neck,7,7) ->[ conv 1x1, residual ]-> (N,64,7,7)
          ->[ transposed conv, residual ]-> (N,32,14,14) ->[ conv, shuffle, sigmoid ]-> x_hat (N,1,28,28)
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        *,
        latent_dim: int = 32,
        widths: Sequence[int] = (32, 64),
        blocks: Sequence[int] = (1, 2),
        neck: int = 16,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        step = pyramid_step(height, width, widths, blocks)
        self.latent_dim = latent_dim
        squeezed = (neck, height // step, width // step)
        encoder: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, widths[0], 3, padding=1)]
        decoder: list[nn.Module] = [nn.PixelShuffle(2), nn.Conv2d(widths[0], 4 * channels, 3, padding=1), nn.ReLU()]
        for i, count in enumerate(blocks):
            encoder.append(residual_blocks(widths[i], count))
            decoder.append(residual_blocks(widths[i], count))
            if i + 1 < len(widths):
                encoder += [nn.ReLU(), nn.Conv2d(widths[i], widths[i + 1], 2, stride=2)]
                decoder.append(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2))
        flat = math.prod(squeezed)
        to_latent = [nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, latent_dim)]
        from_latent = [nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, flat)]
        squeeze, widen = nn.Conv2d(widths[-1], neck, 1), nn.Conv2d(neck, widths[-1], 1)
        self.encoder = nn.Sequential(*encoder, nn.ReLU(), squeeze, nn.Flatten(), *to_latent)
        self.decoder = nn.Sequential(*from_latent, nn.Unflatten(1, squeezed), widen, *reversed(decoder), nn.Sigmoid())

    def encode(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch latent"]:
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel height width"]:
        x_hat: Tensor = self.decoder(z)
        return x_hat

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return self.decode(self.encode(x))
