"""All that a training needs to go on after it was killed."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from training.files import write_atomically

CHECKPOINT = "checkpoint.pt"


@dataclass
class Checkpoint:
    """All that a checkpoint holds: enough to go on as if nothing had happened."""

    model: nn.Module
    average: nn.Module  # exponential moving average of the weights: what is evaluated and exported
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    epoch_loss: float = 0.0
    epoch_penalty: float = 0.0  # of the regularisation, times its strength: the part of `epoch_loss` that it makes
    wall_s: float = 0.0
    cpu_s: float = 0.0
    history: list[dict[str, int | float]] = field(default_factory=list)

    _FIGURES = ("step", "epoch_loss", "epoch_penalty", "wall_s", "cpu_s", "history")

    def save(self, path: Path) -> None:
        """Write everything to `path`, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            **{name: getattr(self, name) for name in self._FIGURES},
        }
        with write_atomically(path) as file:
            torch.save(state, file)

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from `path` where there is one."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name in self._FIGURES:
            setattr(self, name, state.get(name, getattr(self, name)))

    def end_epoch(self, validation_loss: float, *, penalty_name: str = "none") -> None:
        """Put the epoch's losses into the history, that of the regularisation by its name, and start the next one."""
        epoch = len(self.history) + 1
        entry = {"epoch": epoch, "training_loss": self.epoch_loss, "validation_loss": validation_loss}
        if penalty_name != "none":
            entry[penalty_name] = self.epoch_penalty
        self.history.append(entry)
        self.epoch_loss = self.epoch_penalty = 0.0
