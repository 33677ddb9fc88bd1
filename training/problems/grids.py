"""Photographs as grids of symbols: squared error plus bits, on patches of planes at a random rate each."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from service.contract.tables import CELL, CHANNELS
from training.images.pixels import to_pixels
from training.optimisers import build_optimisers
from training.photocodec.config import PhotoCodecRecipe
from training.photocodec.network import LappedAutoencoder
from training.photocodec.patches import Patches, planes_of
from training.problems.rows import trade_off
from training.randomness import uniform_noise
from training.restoration.photos import Pair, Photos
from training.trainer import Batch, Job, Network, TrainingError

VALIDATION_SIDE = 256  # pixels from the middle of each photograph that was kept back


def build_network(recipe: PhotoCodecRecipe) -> LappedAutoencoder:
    """The recipe's network before training: its kernels are cosines, the rest is drawn from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return LappedAutoencoder(recipe.steps, width=recipe.network.width, depth=recipe.network.depth)


def job(recipe: PhotoCodecRecipe, data: Photos, device: torch.device) -> Job:
    """The training that a recipe asks for.

    Raises:
        TrainingError: No picture is large enough.
    """
    config = recipe.training
    patches = Patches(data.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {2 * config.patch} pixels a side; lower training.patch")
    network = build_network(recipe).to(device)
    kernels = torch.optim.AdamW([network.analysis, network.synthesis], lr=config.kernel_learning_rate, weight_decay=0.0)
    prior = torch.optim.AdamW([network.weight, network.log_scale], lr=config.prior_learning_rate, weight_decay=0.0)
    lambdas = recipe.price * network.steps.square()
    cells = config.patch // CELL

    def draw(step: int, generator: Generator) -> Batch:
        planes, rate = patches.draw(config.batch_size, generator)
        return to_pixels(planes), rate, uniform_noise((config.batch_size, CHANNELS, cells, cells), generator)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x, rate, noise = batch
        x_hat, bits = network(x, rate, noise)
        return {"trade_off": trade_off(x_hat.float(), x, bits.float(), lambdas[rate])}

    return Job(
        name=recipe.name,
        config=config,
        network=network,
        optimisers=[*build_optimisers(network.refine, config), kernels, prior],
        steps=config.steps,
        look_every=config.validate_every,
        batch_size=config.batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, lambdas),
        shown=lambda value: f"validation {value:.1f}",
        parameters=sum(p.numel() for p in (network.analysis, network.synthesis, *network.refine.parameters())),
        memory_format=torch.contiguous_format,
    )


@torch.no_grad()
def validation_loss(model: nn.Module, pairs: tuple[Pair, ...], lambdas: Float[Tensor, " rate"]) -> float:
    """Mean of `trade_off` over the planes of all photographs at every rate, with rounded symbols."""
    losses, rates = [], len(lambdas) // 2
    for pair in pairs:
        top, left = (max(0, (side - VALIDATION_SIDE) // 2) for side in pair.clean.shape[1:])
        middle = pair.clean[:, top : top + VALIDATION_SIDE, left : left + VALIDATION_SIDE]
        for number, plane in enumerate(planes_of(middle)):
            height, width = (side // CELL * CELL for side in plane.shape)
            x = to_pixels(plane[None, None, :height, :width]).to(lambdas.device).expand(rates, -1, -1, -1)
            rate = torch.arange(rates, device=lambdas.device) + (rates if number else 0)
            x_hat, bits = model(x, rate)
            losses.append(trade_off(x_hat, x, bits, lambdas[rate]).item())
    return sum(losses) / len(losses)
