"""Linear autoencoder: with mean squared error it learns the subspace that PCA finds."""

from jaxtyping import Float
from torch import Tensor, nn


class LinearAutoencoder(nn.Module):
    """One matrix in, one matrix out: spans the subspace of the first `latent_dim` principal components.

    Baldi and Hornik, Neural Networks and Principal Component Analysis, 1989,
    https://doi.org/10.1016/0893-6080(89)90014-2

        x (N,C,H,W) ->[ flatten, linear ]-> z (N,latent_dim) ->[ linear ]-> x_hat (N,C,H,W)
    """

    def __init__(self, channels: int, height: int, width: int, *, latent_dim: int = 32) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.shape = (channels, height, width)
        pixels = channels * height * width
        self.encoder = nn.Linear(pixels, latent_dim)
        self.decoder = nn.Linear(latent_dim, pixels)

    def encode(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch latent"]:
        z: Tensor = self.encoder(x.flatten(1))
        return z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel height width"]:
        x_hat: Tensor = self.decoder(z).unflatten(1, self.shape)  # (N,C*H*W) -> (N,C,H,W)
        return x_hat

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return self.decode(self.encode(x))
