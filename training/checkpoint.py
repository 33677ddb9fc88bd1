"""Checkpoints, from which an interrupted training resumes."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from training.files import write_atomically

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"


@dataclass
class Checkpoint:
    """The complete state of a training, so that it resumes exactly."""

    model: nn.Module
    average: nn.Module  # exponential moving average of the weights: what is evaluated and exported
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    since_look: int = 0  # steps since validation was last looked at
    sums: dict[str, float] = field(default_factory=dict)  # of every term of the loss, over those steps
    wall_s: float = 0.0
    cpu_s: float = 0.0
    history: list[dict[str, int | float]] = field(default_factory=list)

    _FIGURES = ("step", "since_look", "sums", "wall_s", "cpu_s", "history")

    def save(self, path: Path) -> None:
        """Write the checkpoint to `path` atomically."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            **{name: getattr(self, name) for name in self._FIGURES},
        }
        with write_atomically(path) as file:
            torch.save(state, file)

    def load(self, path: Path, device: torch.device) -> None:
        """Restore the checkpoint at `path`, if it exists."""
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

    def add(self, terms: dict[str, float]) -> None:
        """Add the losses of one step, by name."""
        self.step += 1
        self.since_look += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean(self, term: str) -> float:
        """Return the mean of a term over the steps since the last validation."""
        return self.sums.get(term, 0.0) / max(1, self.since_look)

    def end_look(self, validation_loss: float) -> None:
        """Add the means since the last validation to the history, with the validation loss, and reset them."""
        entry: dict[str, int | float] = {"epoch": len(self.history) + 1, "step": self.step}
        entry |= {name: self.mean(name) for name in self.sums}
        self.history.append(entry | {"validation_loss": validation_loss})
        self.since_look, self.sums = 0, {}
