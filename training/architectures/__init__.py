"""The networks. To add one: a file with one nn.Module here, and its line in ARCHITECTURES.

Every class takes (channels, height, width) and keyword options. An autoencoder has `latent_dim`, `encode` and `decode`,
and its forward is decode(encode(x)); a network without a bottleneck has `latent_dim = None` and only a forward.
"""

import torch
from torch import nn

from training.architectures.conv import ConvAutoencoder
from training.architectures.linear import LinearAutoencoder
from training.architectures.mlp import MLPAutoencoder
from training.architectures.unet import UNet
from training.compression.config import CompressionRecipe
from training.config import Recipe, RecipeError

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "conv": ConvAutoencoder,
    "linear": LinearAutoencoder,
    "mlp": MLPAutoencoder,
    "unet": UNet,
}


def build(recipe: Recipe | CompressionRecipe) -> nn.Module:
    """Build the recipe's network, with weights initialised from its seed.

    Raises:
        RecipeError: The architecture or one of its options is unknown.
    """
    name, data = recipe.architecture.name, recipe.data
    if name not in ARCHITECTURES:
        raise RecipeError(f"no architecture {name!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        try:
            return ARCHITECTURES[name](data.channels, data.height, data.width, **recipe.architecture.options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"architecture {name} with options {recipe.architecture.options}: {error}") from error
