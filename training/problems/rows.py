"""Images of one size as rows of symbols: squared error plus bits, at a random rate per image."""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from training.compression.codec import build_codec
from training.compression.config import CompressionRecipe
from training.data import Dataset, Images
from training.images.pixels import to_pixels
from training.optimisers import build_optimisers
from training.randomness import epoch_order, uniform_noise
from training.trainer import Batch, Job, Network

VALIDATION_BATCH = 500
# An image counts (error + lambda * bits) / lambda**0.7: by lambda itself small ones would rule, undivided large ones.
BALANCE = 0.7


def job(recipe: CompressionRecipe, data: Dataset, device: torch.device) -> Job:
    """The training that a recipe asks for.

    Raises:
        RecipeError: The architecture is unknown, or has no latent.
    """
    config = recipe.training
    codec = build_codec(recipe).to(device)
    prior = torch.optim.AdamW(codec.prior, lr=config.prior_learning_rate, weight_decay=0.0)
    gains = torch.optim.AdamW([codec.log_gain], lr=config.learning_rate, weight_decay=0.0)
    lambdas = torch.tensor(recipe.lambdas, device=device)
    batch_size = min(config.batch_size, len(data.train))
    steps_per_epoch = len(data.train) // batch_size

    def draw(step: int, generator: Generator) -> Batch:
        epoch, at = divmod(step, steps_per_epoch)
        order = epoch_order(len(data.train), config.seed, epoch)
        x = to_pixels(data.train[order[at * batch_size : (at + 1) * batch_size]])
        rate = torch.randint(len(lambdas), (len(x),), generator=generator)
        return x, rate, uniform_noise((len(x), codec.log_gain.shape[1]), generator)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x, rate, noise = batch
        x_hat, bits = network(x, rate, noise)
        return {"trade_off": trade_off(x_hat, x, bits, lambdas[rate])}

    return Job(
        name=recipe.name,
        config=config,
        network=codec,
        optimisers=[*build_optimisers(codec.autoencoder, config), gains, prior],
        steps=config.epochs * steps_per_epoch,
        look_every=steps_per_epoch,
        batch_size=batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, lambdas),
        shown=lambda value: f"validation {value:.2f}",
        parameters=sum(p.numel() for p in codec.autoencoder.parameters()) + codec.log_gain.numel(),
        memory_format=torch.contiguous_format,
    )


def trade_off(
    x_hat: Float[Tensor, "batch channel height width"],
    x: Float[Tensor, "batch channel height width"],
    bits: Float[Tensor, " batch"],
    lambdas: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Squared error of an image plus lambda times its bits, mean over images, each rate with about the same weight."""
    error = (x_hat - x).square().flatten(1).sum(1)
    return ((error + lambdas * bits) / lambdas.pow(BALANCE)).mean()


@torch.no_grad()
def validation_loss(codec: nn.Module, images: Images, lambdas: Float[Tensor, " rate"]) -> float:
    """Mean of `trade_off` over all images at every rate, with rounded symbols."""
    total = 0.0
    for chunk in torch.split(images, VALIDATION_BATCH):
        x = to_pixels(chunk).to(lambdas.device)
        for i in range(len(lambdas)):
            rate: Int64[Tensor, " batch"] = torch.full((len(x),), i, device=lambdas.device)
            x_hat, bits = codec(x, rate)
            total += trade_off(x_hat, x, bits, lambdas[rate]).item() * len(x)
    return total / (len(images) * len(lambdas))
