"""The training loop: as `training.loop`, for squared error plus bits at a random rate per image."""

import math
import time
from copy import deepcopy
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from training.checkpoint import Checkpoint
from training.compression.codec import Codec, build_codec
from training.compression.config import CompressionRecipe
from training.data import Dataset, Images
from training.files import write_atomically
from training.loop import (
    CHECKPOINT_INTERVAL_S,
    VALIDATION_BATCH,
    TrainingError,
    TrainingReport,
    descend,
    generator_for,
    to_pixels,
)
from training.optimisers import build_optimisers

# An image counts (error + lambda * bits) / lambda**0.7: by lambda itself small ones would rule, undivided large ones.
BALANCE = 0.7


def train(
    data: Dataset, recipe: CompressionRecipe, *, run_dir: Path, device: torch.device, progress: bool
) -> TrainingReport:
    """Train from the newest checkpoint in `run_dir`, or from the start; leaves the averaged weights in `weights.pt`.

    Raises:
        TrainingError: The loss is no longer a finite number.
    """
    config = recipe.training
    batch_size = min(config.batch_size, len(data.train))
    steps_per_epoch = len(data.train) // batch_size
    steps = config.epochs * steps_per_epoch
    codec = build_codec(recipe).to(device)
    prior = torch.optim.AdamW(codec.prior, lr=config.prior_learning_rate, weight_decay=0.0)
    gains = torch.optim.AdamW([codec.log_gain], lr=config.learning_rate, weight_decay=0.0)
    optimisers = [*build_optimisers(codec.autoencoder, config), gains, prior]
    average = deepcopy(codec).eval()
    state = Checkpoint(codec, average, optimisers)
    checkpoint = run_dir / "checkpoint.pt"
    state.load(checkpoint, device)
    lambdas = torch.tensor(recipe.lambdas, device=device)
    wall_start, cpu_start = time.monotonic() - state.wall_s, time.process_time() - state.cpu_s
    saved_at = time.monotonic()
    bar = tqdm(
        total=steps * batch_size, initial=state.step * batch_size, unit="image", unit_scale=True,
        desc=f"train {recipe.name}", disable=not progress, dynamic_ncols=True,
    )  # fmt: skip
    codec.train()
    order = torch.empty(0, dtype=torch.long)
    for step in range(state.step, steps):
        epoch, at = divmod(step, steps_per_epoch)
        if at == 0 or not len(order):
            order = torch.randperm(len(data.train), generator=generator_for(config.seed, -1 - epoch))
        generator = generator_for(config.seed, step)
        x = to_pixels(data.train[order[at * batch_size : (at + 1) * batch_size]]).to(device)
        rate = torch.randint(len(lambdas), (len(x),), generator=generator).to(device)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # of the noise

        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            x_hat, bits = codec(x, rate)
        loss = trade_off(x_hat, x, bits, lambdas[rate])
        descend(loss, state, config, step, steps)

        state.add({"training_loss": loss.item()})
        bar.update(batch_size)
        if at == steps_per_epoch - 1:
            if not math.isfinite(mean := state.mean("training_loss")):
                raise TrainingError(
                    f"the loss became {mean} in epoch {epoch + 1}; lower training.learning_rate (now "
                    f"{config.learning_rate}) or training.muon_learning_rate (now {config.muon_learning_rate})"
                )
            state.end_look(validation_loss(average, data.validation, lambdas))
            bar.set_postfix_str(f"validation {state.history[-1]['validation_loss']:.2f}")
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S or state.step == steps:
            state.wall_s, state.cpu_s = time.monotonic() - wall_start, time.process_time() - cpu_start
            state.save(checkpoint)
            saved_at = time.monotonic()
    bar.close()
    with write_atomically(run_dir / "weights.pt") as file:
        torch.save({name: value.contiguous().cpu() for name, value in state.average.state_dict().items()}, file)
    return TrainingReport(
        parameters=sum(p.numel() for p in codec.autoencoder.parameters()) + codec.log_gain.numel(),
        steps=steps,
        images_seen=steps * batch_size,
        wall_s=round(state.wall_s, 1),
        cpu_s=round(state.cpu_s, 1),
        validation_loss=state.history[-1]["validation_loss"],
        history=tuple(state.history),
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
def validation_loss(codec: Codec, images: Images, lambdas: Float[Tensor, " rate"]) -> float:
    """Mean of `trade_off` over all images at every rate, with rounded symbols."""
    total = 0.0
    for chunk in torch.split(images, VALIDATION_BATCH):
        x = to_pixels(chunk).to(lambdas.device)
        for i in range(len(lambdas)):
            rate: Int64[Tensor, " batch"] = torch.full((len(x),), i, device=lambdas.device)
            x_hat, bits = codec(x, rate)
            total += trade_off(x_hat, x, bits, lambdas[rate]).item() * len(x)
    return total / (len(images) * len(lambdas))
