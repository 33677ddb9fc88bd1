"""An autoencoder with an entropy model of its latents, at several rates."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from training.architectures import build
from training.compression.config import CompressionRecipe
from training.config import RecipeError

COMPONENTS = 3  # logistic distributions in the prior of one latent
SMALLEST_PROBABILITY = 2.0**-20  # keeps the gradient of a symbol that the prior does not expect

Images = Float[Tensor, "batch channel height width"]
Rows = Float[Tensor, "batch latent"]


class Codec(nn.Module):
    """x -> y -> symbols -> x_hat, with a gain per latent and rate, and a prior for the bits of a symbol.

    Ballé et al., End-to-end Optimized Image Compression, 2017, https://arxiv.org/abs/1611.01704: rounding becomes
    uniform noise where the bits are counted in training. Minnen and Singh, 2020, https://arxiv.org/abs/2007.08739: the
    decoder still sees rounded values, with the gradient of the unrounded ones. Cui et al., Asymmetric Gained Deep Image
    Compression, 2021, https://arxiv.org/abs/2003.02012: one network for all rates, by a gain on every latent.

        x (N,C,H,W) ->[ encoder ]-> (N,D) ->[ * gain[rate] ]-> y (N,D) ->[ round ]-> symbols (N,D)
        symbols ->[ / gain[rate] ]-> (N,D) ->[ decoder ]-> x_hat (N,C,H,W)

    Args:
        autoencoder: Network with `latent_dim`, `encode` and `decode`.
        lambdas: Weight of the bits at each rate, falling.
    """

    def __init__(self, autoencoder: nn.Module, lambdas: tuple[float, ...]) -> None:
        super().__init__()
        dim = int(autoencoder.latent_dim)  # type: ignore[arg-type]  # nn.Module types its attributes Tensor | Module
        self.autoencoder = autoencoder
        self.rates = len(lambdas)
        middle = lambdas[len(lambdas) // 2]
        # A step of quantisation costs its square: it may grow with the root of lambda.
        gains = torch.tensor([2.0 * math.sqrt(middle / value) for value in lambdas])
        self.log_gain = nn.Parameter(gains.log()[:, None].repeat(1, dim))  # (rate, latent)
        self.weight = nn.Parameter(torch.zeros(self.rates, dim, COMPONENTS))
        self.location = nn.Parameter(torch.linspace(-1.0, 1.0, COMPONENTS).repeat(self.rates, dim, 1))
        self.log_scale = nn.Parameter(torch.zeros(self.rates, dim, COMPONENTS))

    @property
    def prior(self) -> list[nn.Parameter]:
        """Parameters of the prior over symbols."""
        return [self.weight, self.location, self.log_scale]

    def encode(self, x: Images, rate: Int64[Tensor, " batch"]) -> Rows:
        y: Tensor = self.autoencoder.encode(x)  # type: ignore[operator]  # as above
        return y.float() * self.log_gain[rate].exp()

    def decode(self, symbols: Rows, rate: Int64[Tensor, " batch"]) -> Images:
        x_hat: Tensor = self.autoencoder.decode(symbols * torch.exp(-self.log_gain[rate]))  # type: ignore[operator]
        return x_hat.float()

    def bits(self, y: Rows, rate: Int64[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the bits of y: minus log2 of the prior's mass within half a step of each value."""
        shares, inverse = self.weight[rate].softmax(-1), torch.exp(-self.log_scale[rate])  # (N, D, components)
        from_location = y[..., None] - self.location[rate]
        above, below = (torch.sigmoid((from_location + half) * inverse) for half in (0.5, -0.5))
        probability = (shares * (above - below)).sum(-1)
        return -probability.clamp_min(SMALLEST_PROBABILITY).log2().sum(1)

    def forward(
        self, x: Images, rate: Int64[Tensor, " batch"], noise: Rows | None = None
    ) -> tuple[Images, Float[Tensor, " batch"]]:
        """Return x_hat and its bits. In training, uniform `noise` in [0, 1) replaces rounding for the bits."""
        y = self.encode(x, rate)
        rounded = y + (y.round() - y).detach()
        counted = rounded if noise is None else y + noise - 0.5
        return self.decode(rounded, rate), self.bits(counted, rate)


class Compress(nn.Module):
    """x (N,C,H,W), rate (N,) -> y (N,D), to be rounded. Rates are clamped to those that exist."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, x: Images, rate: Float[Tensor, " batch"]) -> Rows:
        return self.codec.encode(x, _index(rate, self.codec.rates))


class Decompress(nn.Module):
    """symbols (N,D), rate (N,) -> x_hat (N,C,H,W), in [0, 1]."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, symbols: Rows, rate: Float[Tensor, " batch"]) -> Images:
        return self.codec.decode(symbols, _index(rate, self.codec.rates)).clamp(0.0, 1.0)


def build_codec(recipe: CompressionRecipe) -> Codec:
    """Build the recipe's codec, with weights initialised from its seed.

    Raises:
        RecipeError: The architecture or one of its options is unknown, or the architecture has no latent.
    """
    autoencoder = build(recipe)
    if autoencoder.latent_dim is None:
        raise RecipeError(f"architecture {recipe.architecture.name} has no latent to write to a file; try conv")
    return Codec(autoencoder, recipe.lambdas)


def _index(rate: Float[Tensor, " batch"], rates: int) -> Int64[Tensor, " batch"]:
    return rate.long().clamp(0, rates - 1)
