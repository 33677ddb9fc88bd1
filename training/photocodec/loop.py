"""The training loop: as `training.compression.loop`, over patches of planes and counted in steps."""

import math
import time
from copy import deepcopy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from service.contract.tables import CELL
from training.checkpoint import CHECKPOINT, Checkpoint
from training.compression.loop import trade_off
from training.files import write_atomically
from training.loop import CHECKPOINT_INTERVAL_S, TrainingError, TrainingReport, descend, generator_for, to_pixels
from training.optimisers import build_optimisers
from training.photocodec.config import PhotoCodecRecipe
from training.photocodec.network import LappedAutoencoder
from training.photocodec.patches import Patches, planes_of
from training.restoration.photos import Pair, Photos
from training.run import WEIGHTS

VALIDATION_SIDE = 256  # pixels from the middle of each photograph that was kept back


def build_network(recipe: PhotoCodecRecipe) -> LappedAutoencoder:
    """The recipe's network before training: its kernels are cosines, the rest is drawn from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return LappedAutoencoder(recipe.steps, width=recipe.network.width, depth=recipe.network.depth)


def train(
    photos: Photos, recipe: PhotoCodecRecipe, *, run_dir: Path, device: torch.device, progress: bool
) -> TrainingReport:
    """Train from the newest checkpoint in `run_dir`, or from the start; leaves the averaged weights in `weights.pt`.

    Raises:
        TrainingError: The loss is no longer a finite number, or no picture is large enough.
    """
    config = recipe.training
    patches = Patches(photos.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {2 * config.patch} pixels a side; lower training.patch")
    model = build_network(recipe).to(device)
    kernels = torch.optim.AdamW([model.analysis, model.synthesis], lr=config.kernel_learning_rate, weight_decay=0.0)
    prior = torch.optim.AdamW([model.weight, model.log_scale], lr=config.prior_learning_rate, weight_decay=0.0)
    average = deepcopy(model).eval()
    state = Checkpoint(model, average, [*build_optimisers(model.refine, config), kernels, prior])
    state.load(run_dir / CHECKPOINT, device)
    lambdas = recipe.price * model.steps.square()
    wall_start, cpu_start = time.monotonic() - state.wall_s, time.process_time() - state.cpu_s
    saved_at = time.monotonic()
    bar = tqdm(
        total=config.steps * config.batch_size, initial=state.step * config.batch_size, unit="patch", unit_scale=True,
        desc=f"train {recipe.name}", disable=not progress, dynamic_ncols=True,
    )  # fmt: skip
    model.train()
    for step in range(state.step, config.steps):
        generator = generator_for(config.seed, step)
        planes, rate = patches.draw(config.batch_size, generator)
        x, rate = to_pixels(planes).to(device), rate.to(device)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # of the noise
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            x_hat, bits = model(x, rate)
        loss = trade_off(x_hat.float(), x, bits.float(), lambdas[rate])
        descend(loss, state, config, step, config.steps)
        state.add({"training_loss": loss.item()})
        bar.update(config.batch_size)
        if state.step % config.validate_every == 0 or state.step == config.steps:
            if not math.isfinite(mean := state.mean("training_loss")):
                raise TrainingError(
                    f"the loss became {mean} before step {state.step}; lower training.learning_rate (now "
                    f"{config.learning_rate}) or training.kernel_learning_rate (now {config.kernel_learning_rate})"
                )
            state.end_look(validation_loss(average, photos.validation, lambdas))
            bar.set_postfix_str(f"validation {state.history[-1]['validation_loss']:.1f}")
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S or state.step == config.steps:
            state.wall_s, state.cpu_s = time.monotonic() - wall_start, time.process_time() - cpu_start
            state.save(run_dir / CHECKPOINT)
            saved_at = time.monotonic()
    bar.close()
    with write_atomically(run_dir / WEIGHTS) as file:
        torch.save({name: value.contiguous().cpu() for name, value in state.average.state_dict().items()}, file)
    return TrainingReport(
        parameters=sum(p.numel() for p in (model.analysis, model.synthesis, *model.refine.parameters())),
        steps=config.steps,
        images_seen=config.steps * config.batch_size,
        wall_s=round(state.wall_s, 1),
        cpu_s=round(state.cpu_s, 1),
        validation_loss=state.history[-1]["validation_loss"],
        history=tuple(state.history),
    )


@torch.no_grad()
def validation_loss(model: LappedAutoencoder, pairs: tuple[Pair, ...], lambdas: Float[Tensor, " rate"]) -> float:
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
