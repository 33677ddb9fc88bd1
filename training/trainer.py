"""The training loop of every kind of model: batch, forward, loss, backward, step, save, in that order."""

import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from training.checkpoint import CHECKPOINT, WEIGHTS, Checkpoint
from training.config import OptimisationConfig, RecipeError
from training.distributed import rank_and_world, sum_over_processes
from training.errors import TrainingError
from training.files import write_atomically
from training.randomness import generator_for
from training.schedule import learning_rate_factor

CHECKPOINT_INTERVAL_S = 30.0

Batch = tuple[Tensor, ...]  # every tensor has the images of the batch along its first axis
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)
Network = Callable[..., Any]  # each problem knows what its own takes and returns


@dataclass(frozen=True)
class Job:
    """A training for the loop; `problems/` has one for every kind of recipe.

    Attributes:
        name: Name in the progress bar.
        config: Learning rates, precision, seed.
        network: Network to train, average and save; on its device.
        optimisers: Optimisers of its parameters.
        steps: Number of steps.
        look_every: Steps between validations; the last step is always validated.
        batch_size: Images in a batch, over all processes.
        draw: (step, generator) -> the whole batch, on the CPU. All random numbers come from the generator.
        loss: (network, share of the batch on the device) -> terms of the loss by name, to be summed.
        validate: averaged network -> validation loss.
        shown: Formats the validation loss.
        forward: Module that is called instead of the network, and contains it; None for the network itself.
        parameters: Number of parameters of the served model; None for the network's.
        memory_format: Memory format of the network and of images.
    """

    name: str
    config: OptimisationConfig
    network: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    steps: int
    look_every: int
    batch_size: int
    draw: Callable[[int, Generator], Batch]
    loss: Callable[[Network, Batch], Mapping[str, Tensor]]
    validate: Callable[[nn.Module], float]
    shown: Callable[[float], str]
    forward: nn.Module | None = None
    parameters: int | None = None
    memory_format: torch.memory_format = torch.channels_last


@dataclass(frozen=True)
class TrainingReport:
    """Cost and result of a training. `history` has one entry per validation, with the mean losses since the last."""

    parameters: int
    steps: int
    images_seen: int
    wall_s: float
    cpu_s: float
    validation_loss: float
    history: tuple[dict[str, int | float], ...]


def train(job: Job, *, run_dir: Path, device: torch.device, progress: bool) -> TrainingReport:
    """Train from the newest checkpoint in `run_dir`, or from the start.

    The moving average of the weights is stored in `job.network`, in evaluation mode, and in `run_dir/weights.pt`. Under
    torchrun every process calls this; the first one writes.

    Raises:
        RecipeError: The batch size is not divisible by the number of processes.
        TrainingError: The loss is no longer a finite number.
    """
    config, network = job.config, job.network
    rank, world = rank_and_world()
    if job.batch_size % world:
        raise RecipeError(f"training.batch_size={job.batch_size} must be a multiple of the {world} processes")
    state = Checkpoint(network, deepcopy(network).eval(), list(job.optimisers))
    state.load(run_dir / CHECKPOINT, device)
    forward = _in_precision(job.forward or network, config, device)
    wall_start, cpu_start = time.monotonic() - state.wall_s, time.process_time() - state.cpu_s
    saved_at = time.monotonic()

    network.train()
    bar = tqdm(
        total=job.steps * job.batch_size,
        initial=state.step * job.batch_size,
        unit="img",
        unit_scale=True,
        desc=f"train {job.name}",
        disable=not progress or rank > 0,
        dynamic_ncols=True,
    )
    for step in range(state.step, job.steps):
        batch = job.draw(step, generator_for(config.seed, step))
        terms = job.loss(forward, tuple(_to(tensor[rank::world], device, job.memory_format) for tensor in batch))
        loss = reduce(add, terms.values())
        _descend(loss, state, config, step, job.steps)

        parts = {"training_loss": loss} | (dict(list(terms.items())[1:]))  # the first is what is left of the sum
        state.add({name: sum_over_processes(term.item()) / world for name, term in parts.items()})
        bar.update(job.batch_size)
        if state.step % job.look_every == 0 or state.step == job.steps:
            if not math.isfinite(mean := state.mean("training_loss")):
                raise TrainingError(f"the loss became {mean} before step {state.step}; lower {_rates(config)}")
            state.end_look(job.validate(state.average))
            bar.set_postfix_str(job.shown(state.history[-1]["validation_loss"]))
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S or state.step == job.steps:
            state.wall_s, state.cpu_s = time.monotonic() - wall_start, time.process_time() - cpu_start
            if rank == 0:
                state.save(run_dir / CHECKPOINT)
            saved_at = time.monotonic()
    bar.close()

    network.load_state_dict(state.average.state_dict())
    network.eval()
    report = TrainingReport(
        parameters=sum(p.numel() for p in network.parameters()) if job.parameters is None else job.parameters,
        steps=job.steps,
        images_seen=job.steps * job.batch_size,
        wall_s=round(state.wall_s, 1),
        cpu_s=round(sum_over_processes(state.cpu_s), 1),
        validation_loss=state.history[-1]["validation_loss"],
        history=tuple(state.history),
    )
    if rank == 0:
        with write_atomically(run_dir / WEIGHTS) as file:
            torch.save({name: value.contiguous().cpu() for name, value in network.state_dict().items()}, file)
    if world > 1:
        dist.barrier()
    return report


def descend_on(
    loss: Callable[[], Tensor], schedule: torch.optim.lr_scheduler.LRScheduler, *, steps: int, name: str, progress: bool
) -> None:
    """Minimise a loss, without checkpoints or an average of weights: for small networks.

    Args:
        loss: Draws a batch and returns its loss; called once per step.
        schedule: Learning rate schedule with its optimiser.
        steps: Number of steps.
        name: Name in the progress bar.
        progress: Show a progress bar.
    """
    optimiser = schedule.optimizer
    with tqdm(range(steps), desc=name, unit="step", disable=not progress) as bar:
        for step in bar:
            value = loss()
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            optimiser.step()
            schedule.step()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{value.item():.4f}")


def load_weights(network: AnyNetwork, run_dir: Path) -> AnyNetwork:
    """Load the trained weights of a run into `network`, on the CPU and in evaluation mode, and return it.

    Raises:
        TrainingError: The run has no weights yet, or they belong to another network.
    """
    try:
        network.load_state_dict(torch.load(run_dir / WEIGHTS, weights_only=True, map_location="cpu"))
    except FileNotFoundError as error:
        raise TrainingError(f"{run_dir} has no {WEIGHTS}: train it first") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        name = type(network).__name__
        raise TrainingError(f"{run_dir / WEIGHTS} does not fit the recipe's {name}: {error}") from error
    return network.eval()


def _in_precision(module: nn.Module, config: OptimisationConfig, device: torch.device) -> Network:
    """Return the forward pass in the recipe's precision, with gradients averaged over processes."""
    called = DistributedDataParallel(module) if dist.is_initialized() else module

    def forward(*inputs: Tensor) -> Any:  # noqa: ANN401 - as Network
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return called(*inputs)

    return forward


def _to(tensor: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    return tensor.to(device, memory_format=memory_format if tensor.ndim == 4 else torch.preserve_format)


def _descend(loss: Tensor, state: Checkpoint, config: OptimisationConfig, step: int, steps: int) -> None:
    """Take one step: clip the gradients, step every optimiser, update the average of the weights."""
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


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1.0 - decay)


def _rates(config: OptimisationConfig) -> str:
    """Return a text with every learning rate of the recipe."""
    return " or ".join(f"training.{name} (now {value:g})" for name, value in config if name.endswith("learning_rate"))
