"""The training loop over patches: as `training.loop`, but counted in steps and validated on whole photographs."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from training.architectures.restorer import SIGMA_UNIT, Restorer
from training.checkpoint import CHECKPOINT, Checkpoint
from training.files import write_atomically
from training.loop import (
    CHECKPOINT_INTERVAL_S,
    VALIDATION_STEP,
    TrainingError,
    TrainingReport,
    descend,
    generator_for,
    to_pixels,
)
from training.losses import LOSSES
from training.metrics import psnr_db
from training.optimisers import build_optimisers
from training.restoration.blind import hide
from training.restoration.config import RestorationRecipe
from training.restoration.patches import VALIDATION_SIGMA, Patches, prepare
from training.restoration.photos import Pair, Photos
from training.restoration.start import load_start


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


def train(
    photos: Photos, recipe: RestorationRecipe, *, run_dir: Path, device: torch.device, progress: bool
) -> TrainingReport:
    """Train from the newest checkpoint in `run_dir`, or from the start; leaves the averaged weights in `weights.pt`.

    Raises:
        TrainingError: The loss is no longer a finite number, or no picture is large enough.
    """
    config = recipe.training
    patches = Patches(photos.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {config.patch * recipe.factor} pixels a side; lower training.patch")
    model = build_network(recipe).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = run_dir / CHECKPOINT
    if config.start_from and not checkpoint.exists():
        load_start(model, config.start_from)
    state = Checkpoint(model, deepcopy(model).eval(), build_optimisers(model, config))
    state.load(checkpoint, device)
    wall_start, cpu_start = time.monotonic() - state.wall_s, time.process_time() - state.cpu_s
    saved_at = time.monotonic()
    loss_of = LOSSES[config.loss]
    bar = tqdm(
        total=config.steps * config.batch_size,
        initial=state.step * config.batch_size,
        unit="patch",
        unit_scale=True,
        desc=f"train {recipe.name}",
        disable=not progress,
        dynamic_ncols=True,
    )
    for step in range(state.step, config.steps):
        batch = patches.draw(generator_for(config.seed, step))
        x_in, x = (t.to(device, memory_format=torch.channels_last) for t in (batch.x_in, batch.x))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            x_hat = model(x_in, batch.sigma.to(device))
        if batch.mask is None:
            loss = loss_of(x_hat.float(), x)
        else:
            mask = batch.mask.to(device)
            loss = loss_of(x_hat.float() * mask, x * mask) / mask.float().mean()
        descend(loss, state, config, step, config.steps)
        state.add({"training_loss": loss.item()})
        bar.update(config.batch_size)
        if state.step % config.validate_every == 0 or state.step == config.steps:
            if not math.isfinite(mean := state.mean("training_loss")):
                raise TrainingError(
                    f"the loss became {mean} before step {state.step}; lower training.learning_rate (now "
                    f"{config.learning_rate}) or training.muon_learning_rate (now {config.muon_learning_rate})"
                )
            state.end_look(validation_loss(state.average, photos.validation, recipe, device))
            bar.set_postfix_str(f"validation {psnr_db(state.history[-1]['validation_loss']):.2f} dB")
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S or state.step == config.steps:
            state.wall_s, state.cpu_s = time.monotonic() - wall_start, time.process_time() - cpu_start
            state.save(checkpoint)
            saved_at = time.monotonic()
    bar.close()
    with write_atomically(run_dir / "weights.pt") as file:
        torch.save({name: value.contiguous().cpu() for name, value in state.average.state_dict().items()}, file)
    return TrainingReport(
        parameters=sum(p.numel() for p in model.parameters()),
        steps=config.steps,
        images_seen=config.steps * config.batch_size,
        wall_s=round(state.wall_s, 1),
        cpu_s=round(state.cpu_s, 1),
        validation_loss=state.history[-1]["validation_loss"],
        history=tuple(state.history),
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
            total += hidden_error(lambda x: model(x, None), x, generator)
            continue
        sigma = torch.full((1,), VALIDATION_SIGMA, device=device)
        x_hat = model(x_in.to(device, memory_format=torch.channels_last), sigma).clamp(0.0, 1.0)
        total += F.mse_loss(x_hat, x.to(device)).item()
    return total / len(pairs)


def hidden_error(restore: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, generator: torch.Generator) -> float:
    """The mean squared error of pixels of `x` that `restore` did not see."""
    hidden = hide(x, generator)
    return float((restore(hidden.x_in) - x).square()[hidden.mask.expand_as(x)].mean())


def _whole_cells(
    x_in: torch.Tensor, x: torch.Tensor, recipe: RestorationRecipe, model: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    cell: int = model.multiple_of  # type: ignore[assignment]  # of Restorer
    height, width = (side // cell * cell for side in x_in.shape[2:])
    return x_in[:, :, :height, :width], x[:, :, : height * recipe.factor, : width * recipe.factor]
