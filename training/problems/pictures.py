"""Pictures of any size: a network that restores or enlarges them, trained on patches and validated on whole ones."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from training.architectures.restorer import SIGMA_UNIT, Restorer
from training.images.pixels import to_pixels
from training.losses import LOSSES
from training.metrics import hidden_error, psnr_db
from training.optimisers import build_optimisers
from training.randomness import VALIDATION_STEP, generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.patches import VALIDATION_SIGMA, Patches, prepare
from training.restoration.photos import Pair, Photos
from training.trainer import Batch, Job, Network, TrainingError


def build_network(recipe: RestorationRecipe) -> Restorer:
    """The recipe's network with weights drawn from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return Restorer(
            recipe.data.channels,
            scale=recipe.factor,
            takes_sigma=recipe.takes_sigma,
            widths=recipe.network.widths,
            blocks=recipe.network.blocks,
        )


def job(recipe: RestorationRecipe, data: Photos, device: torch.device) -> Job:
    """The training that a recipe asks for.

    Raises:
        TrainingError: No picture is large enough.
    """
    config, loss_of = recipe.training, LOSSES[recipe.training.loss]
    patches = Patches(data.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {config.patch * recipe.factor} pixels a side; lower training.patch")
    network = build_network(recipe).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(step: int, generator: Generator) -> Batch:
        batch = patches.draw(generator)
        tensors = (batch.x_in, batch.sigma, batch.x)
        return tensors if batch.mask is None else (*tensors, batch.mask)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x_in, sigma, x, *masks = batch
        x_hat = network(x_in, sigma).float()
        if not masks:
            return {config.loss: loss_of(x_hat, x)}
        (mask,) = masks  # the only pixels that are judged
        return {config.loss: loss_of(x_hat * mask, x * mask) / mask.float().mean()}

    return Job(
        name=recipe.name,
        config=config,
        network=network,
        optimisers=build_optimisers(network, config),
        steps=config.steps,
        look_every=config.validate_every,
        batch_size=config.batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, recipe, device),
        shown=lambda value: f"validation {psnr_db(value):.2f} dB",
    )


@torch.no_grad()
def validation_loss(model: nn.Module, pairs: Sequence[Pair], recipe: RestorationRecipe, device: torch.device) -> float:
    """Mean over whole pictures of their mean squared error; with Gaussian noise of 25 where there is none of their own.

    The noise is the same at every call. In float32 whatever the training's precision. Without clean pictures (`blind`)
    it is the error of pixels that the network did not see, which holds their noise, too.
    """
    generator = generator_for(recipe.training.seed, VALIDATION_STEP)
    total = 0.0
    for pair in pairs:
        made = prepare(pair, recipe)
        assert made is not None  # noqa: S101  for the type checker: pictures have pixels
        x_in, x = (to_pixels(photo)[None] for photo in made)
        x_in, x = _whole_cells(x_in, x, recipe, model)
        if recipe.kind == "denoise":
            x_in = x_in + torch.randn(x_in.shape, generator=generator) * (VALIDATION_SIGMA / SIGMA_UNIT)
        if recipe.kind == "blind":
            total += hidden_error(lambda x: model(x.to(device), None).cpu(), x, generator)
            continue
        sigma = torch.full((1,), VALIDATION_SIGMA, device=device)
        x_hat = model(x_in.to(device, memory_format=torch.channels_last), sigma).clamp(0.0, 1.0)
        total += F.mse_loss(x_hat, x.to(device)).item()
    return total / len(pairs)


def _whole_cells(x_in: Tensor, x: Tensor, recipe: RestorationRecipe, model: nn.Module) -> tuple[Tensor, Tensor]:
    cell: int = model.multiple_of  # type: ignore[assignment]  # of Restorer
    height, width = (side // cell * cell for side in x_in.shape[2:])
    return x_in[:, :, :height, :width], x[:, :, : height * recipe.factor, : width * recipe.factor]
