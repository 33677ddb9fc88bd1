"""The training loop: batch, forward, loss, backward, step, save, in that order.

Everything random in a step comes from a generator seeded by (seed, step), and the batch order from (seed, epoch). So a
run that was killed and resumed ends with the same weights as one that was not, and several processes, which all draw
the whole batch and keep their share of it, take the same steps as one.
"""

import hashlib
import math
import pickle
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from training.architectures import build
from training.augmentation import augment
from training.checkpoint import CHECKPOINT, Checkpoint
from training.config import OptimisationConfig, Recipe, RecipeError
from training.corruptions import corrupt, training_input
from training.data import Dataset
from training.distributed import rank_and_world, sum_over_processes
from training.files import write_atomically
from training.losses import LOSSES
from training.optimisers import build_optimisers
from training.regularisation import Regularised, check_regularisation

CHECKPOINT_INTERVAL_S = 30.0
DECAY_SHARE = 0.2  # of the steps of schedule `wsd`; Hägele et al. find 10 to 20 % as good as a cosine
VALIDATION_BATCH = 500
VALIDATION_STEP = 2**62  # a step that no training reaches, so validation has noise of its own


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training took and where it ended. `history` holds one entry per epoch with both losses."""

    parameters: int
    steps: int
    images_seen: int
    wall_s: float
    cpu_s: float
    validation_loss: float
    history: tuple[dict[str, int | float], ...]


def train(  # noqa: PLR0915 - a loop that reads top to bottom
    model: nn.Module, data: Dataset, recipe: Recipe, *, run_dir: Path, device: torch.device, progress: bool
) -> TrainingReport:
    """Train `model` in place from the newest checkpoint in `run_dir`, or from the start.

    Leaves the moving average of the weights in `run_dir/weights.pt`. Under torchrun every process calls this; the first
    one writes.

    Raises:
        RecipeError: An unknown loss or corruption, or a batch that does not divide among the processes.
        TrainingError: The loss is no longer a finite number.
    """
    config = recipe.training
    if config.loss not in LOSSES:
        raise RecipeError(f"no loss {config.loss!r}; there are {', '.join(sorted(LOSSES))}")
    loss_of = LOSSES[config.loss]
    penalty_of = recipe.regularisation
    check_regularisation(model, penalty_of)
    latent_dim = model.latent_dim if isinstance(model.latent_dim, int) else 0
    rank, world = rank_and_world()
    batch_size = min(config.batch_size, len(data.train))
    if batch_size % world:
        raise RecipeError(f"training.batch_size={batch_size} must be a multiple of the {world} processes")
    steps_per_epoch = len(data.train) // batch_size
    steps = config.epochs * steps_per_epoch

    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    state = Checkpoint(model, deepcopy(model).eval(), build_optimisers(model, config))
    checkpoint = run_dir / CHECKPOINT
    state.load(checkpoint, device)
    network = model if penalty_of.name == "none" else Regularised(model, penalty_of)
    network = DistributedDataParallel(network) if world > 1 else network
    wall_start, cpu_start = time.monotonic() - state.wall_s, time.process_time() - state.cpu_s
    saved_at = time.monotonic()

    model.train()
    bar = tqdm(
        total=steps * batch_size,
        initial=state.step * batch_size,
        unit="img",
        unit_scale=True,
        desc=f"train {recipe.name}",
        disable=not progress or rank > 0,
        dynamic_ncols=True,
    )
    for step in range(state.step, steps):
        epoch, at = divmod(step, steps_per_epoch)
        order = _epoch_order(len(data.train), config.seed, epoch)
        x = to_pixels(data.train[order[at * batch_size : (at + 1) * batch_size]])  # (batch, C, H, W)
        generator = generator_for(config.seed, step)
        x = augment(x, recipe.augmentation, generator)
        x_in = training_input(x, recipe.corruption, generator)
        x, x_in = (t[rank::world].to(device, memory_format=torch.channels_last) for t in (x, x_in))

        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            if penalty_of.name == "none":
                x_hat, penalty = network(x_in), torch.zeros(())
            else:
                noise = torch.randn((batch_size, latent_dim), generator=generator)
                x_hat, penalty = network(x_in, noise[rank::world].to(device))
        penalty = penalty_of.strength * penalty.float()
        loss = loss_of(x_hat.float(), x) + penalty.to(device)
        descend(loss, state, config, step, steps)

        terms = {"training_loss": loss} | ({} if penalty_of.name == "none" else {penalty_of.name: penalty})
        state.add({name: sum_over_processes(term.item()) / world for name, term in terms.items()})
        bar.update(batch_size)
        if at == steps_per_epoch - 1:
            if not math.isfinite(mean := state.mean("training_loss")):
                raise TrainingError(
                    f"the loss became {mean} in epoch {epoch + 1}; lower training.learning_rate (now "
                    f"{config.learning_rate}) or training.muon_learning_rate (now {config.muon_learning_rate})"
                )
            state.end_look(validation_loss(state.average, data.validation, recipe, device))
            bar.set_postfix_str(f"validation {config.loss} {state.history[-1]['validation_loss']:.5f}")
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S or state.step == steps:
            state.wall_s, state.cpu_s = time.monotonic() - wall_start, time.process_time() - cpu_start
            if rank == 0:
                state.save(checkpoint)
            saved_at = time.monotonic()
    bar.close()

    model.load_state_dict(state.average.state_dict())
    model.eval()
    report = TrainingReport(
        parameters=sum(p.numel() for p in model.parameters()),
        steps=steps,
        images_seen=steps * batch_size,
        wall_s=round(state.wall_s, 1),
        cpu_s=round(sum_over_processes(state.cpu_s), 1),
        validation_loss=state.history[-1]["validation_loss"],
        history=tuple(state.history),
    )
    if rank == 0:
        with write_atomically(run_dir / "weights.pt") as file:
            torch.save({name: value.contiguous().cpu() for name, value in model.state_dict().items()}, file)
    if world > 1:
        dist.barrier()
    return report


def descend(loss: Tensor, state: Checkpoint, config: OptimisationConfig, step: int, steps: int) -> None:
    """One step down: gradients, clipped; every optimiser at its rate of this step; the average of the weights."""
    loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
    if config.gradient_clip:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.gradient_clip)
    factor = learning_rate_factor(step, steps, config)
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimiser.step()
        optimiser.zero_grad()
    _update_average(state.average, state.model, decay=min(config.ema_decay, (1 + step) / (10 + step)))


def load_weights(recipe: Recipe, run_dir: Path) -> nn.Module:
    """The trained network of a run, on the CPU and in evaluation mode.

    Raises:
        TrainingError: The run has no trained weights yet, or they are of another network.
    """
    model = build(recipe)
    try:
        weights = torch.load(run_dir / "weights.pt", weights_only=True, map_location="cpu")
        model.load_state_dict(weights)
    except FileNotFoundError as error:
        raise TrainingError(f"{run_dir} has no weights.pt: train it first") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{run_dir / 'weights.pt'} does not fit architecture {recipe.architecture}: {error}"
        ) from error
    return model.eval()


def to_pixels(images: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0 ... 255 as float32 pixels in [0, 1], the very numbers that the service makes of the same image."""
    return images.float().div_(255.0)


def learning_rate_factor(step: int, steps: int, config: OptimisationConfig) -> float:
    """The share of the peak learning rate: up linearly over the warm-up, then down, or level, as `schedule` says.

    The fall of `wsd` is 1 - sqrt: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, 2024, https://arxiv.org/abs/2405.18392.
    """
    warmup = config.warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    fall = round((1.0 - DECAY_SHARE) * steps)
    if config.schedule == "constant" or step < fall:
        return 1.0
    return 1.0 - math.sqrt((step - fall) / (steps - fall))


def free_until(steps: int, config: OptimisationConfig) -> int:
    """So many of `steps` steps are the same however many follow them."""
    if config.warmup_share or config.schedule == "cosine":
        return 0
    return steps if config.schedule == "constant" else round((1.0 - DECAY_SHARE) * steps)


@torch.no_grad()
def validation_loss(
    model: Callable[[Tensor], Tensor],
    images: UInt8[Tensor, "batch channel height width"],
    recipe: Recipe,
    device: torch.device,
) -> float:
    """Mean loss over `images`, all corrupted, with the same corruption at every call."""
    loss_of = LOSSES[recipe.training.loss]
    generator = generator_for(recipe.training.seed, VALIDATION_STEP)
    total = 0.0
    for chunk in torch.split(images, VALIDATION_BATCH):
        x = to_pixels(chunk)
        x_hat = model(corrupt(x, recipe.corruption, generator).to(device, memory_format=torch.channels_last))
        total += loss_of(x_hat, x.to(device)).item() * len(chunk)
    return total / len(images)


def generator_for(seed: int, step: int) -> torch.Generator:
    """What everything random in a step is drawn from."""
    digest = hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@lru_cache(maxsize=1)
def _epoch_order(images: int, seed: int, epoch: int) -> Int64[Tensor, " images"]:
    return torch.randperm(images, generator=generator_for(seed, -1 - epoch))


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1.0 - decay)
