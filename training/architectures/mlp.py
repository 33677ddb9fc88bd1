"""Multilayer perceptron autoencoder: the textbook's network."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class MLPAutoencoder(nn.Module):
    """Fully connected layers that narrow to the latent and widen again. They do not know which pixels are neighbours.

    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, 2006,
    https://doi.org/10.1126/science.1127647

        x (N,C,H,W) ->[ flatten ]-> (N,C*H*W) ->[ linear, LeakyReLU ]-> (N,hidden[0]) -> ... -> z (N,latent_dim)
        z ->[ the same widths backwards, or decoder_hidden ]-> (N,C*H*W) ->[ sigmoid ]-> x_hat (N,C,H,W)

    The decoder need not mirror the encoder: `decoder_hidden` gives its hidden layers.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        *,
        latent_dim: int = 32,
        hidden: Sequence[int] = (128, 64),
        decoder_hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.shape = (channels, height, width)
        pixels = channels * height * width
        self.encoder = _layers([pixels, *hidden, latent_dim])
        self.decoder = _layers([latent_dim, *(hidden[::-1] if decoder_hidden is None else decoder_hidden), pixels])

    def encode(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch latent"]:
        z: Tensor = self.encoder(x.flatten(1))
        return z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel height width"]:
        x_hat: Tensor = self.decoder(z).sigmoid().unflatten(1, self.shape)  # (N,C*H*W) -> (N,C,H,W)
        return x_hat

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return self.decode(self.encode(x))


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])  # no activation behind the last: latents and logits are unbounded
