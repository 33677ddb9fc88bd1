"""Reconstruction of images of one size from corrupted ones, by networks with or without a latent."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Real
from torch import Generator, Tensor, nn

from training.architectures import build
from training.config import Recipe, RecipeError
from training.images.augmentation import augment
from training.images.corruptions import corrupt, training_input
from training.images.dataset import Dataset
from training.images.pixels import to_pixels
from training.losses import LOSSES
from training.optimisers import build_optimisers
from training.randomness import VALIDATION_STEP, epoch_order, generator_for
from training.regularisation import Regularised, check_regularisation
from training.trainer import Batch, Job, Network, load_weights

VALIDATION_BATCH = 500


def job(recipe: Recipe, data: Dataset, device: torch.device) -> Job:
    """Return the training job of a recipe: reconstruction loss, and the regularisation of latents if it has one.

    Raises:
        RecipeError: The loss, corruption or regularisation is unknown, or does not fit the network.
    """
    config, penalty = recipe.training, recipe.regularisation
    if config.loss not in LOSSES:
        raise RecipeError(f"no loss {config.loss!r}; there are {', '.join(sorted(LOSSES))}")
    network = build(recipe)
    check_regularisation(network, penalty)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    latent_dim = network.latent_dim if isinstance(network.latent_dim, int) else 0
    is_regularised = penalty.name != "none"
    batch_size = min(config.batch_size, len(data.train))
    steps_per_epoch = len(data.train) // batch_size

    def draw(step: int, generator: Generator) -> Batch:
        epoch, at = divmod(step, steps_per_epoch)
        order = epoch_order(len(data.train), config.seed, epoch)
        x = to_pixels(data.train[order[at * batch_size : (at + 1) * batch_size]])  # (batch, C, H, W)
        x = augment(x, recipe.augmentation, generator)
        x_in = training_input(x, recipe.corruption, generator)
        return (x, x_in, torch.randn((batch_size, latent_dim), generator=generator)) if is_regularised else (x, x_in)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x, *inputs = batch
        if not is_regularised:
            return {config.loss: LOSSES[config.loss](network(*inputs).float(), x)}
        x_hat, cost = network(*inputs)
        return {config.loss: LOSSES[config.loss](x_hat.float(), x), penalty.name: penalty.strength * cost.float()}

    return Job(
        name=recipe.name,
        config=config,
        network=network,
        optimisers=build_optimisers(network, config),
        steps=config.epochs * steps_per_epoch,
        look_every=steps_per_epoch,
        batch_size=batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, recipe, device),
        shown=lambda value: f"validation {config.loss} {value:.5f}",
        forward=Regularised(network, penalty) if is_regularised else None,
    )


@torch.no_grad()
def validation_loss(
    model: Callable[[Tensor], Tensor],
    images: Real[Tensor, "batch channel height width"],
    recipe: Recipe,
    device: torch.device,
) -> float:
    """Return the mean loss over `images`, all corrupted, with the same corruption at every call."""
    loss_of = LOSSES[recipe.training.loss]
    generator = generator_for(recipe.training.seed, VALIDATION_STEP)
    total = 0.0
    for chunk in torch.split(images, VALIDATION_BATCH):
        x = to_pixels(chunk)
        x_hat = model(corrupt(x, recipe.corruption, generator).to(device, memory_format=torch.channels_last))
        total += loss_of(x_hat, x.to(device)).item() * len(chunk)
    return total / len(images)


def trained(recipe: Recipe, run_dir: Path) -> nn.Module:
    """Return the network of a run with its trained weights.

    Raises:
        TrainingError: The run has no weights yet, or they belong to another network.
    """
    return load_weights(build(recipe), run_dir)
