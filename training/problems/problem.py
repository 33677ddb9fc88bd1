"""What a kind of recipe has to say, so that one `fit` makes a model of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from tqdm import tqdm

from service.contract.manifest import Metric
from training.manifest import Finished
from training.run import OfData, OfRecipe, Run, Sources
from training.trainer import Job


@dataclass(frozen=True)
class Places:
    """Where a fit keeps things, and on what it runs.

    Attributes:
        runs: Directory of runs; each has its name there.
        models: Directory of published models.
        device: auto, cpu or cuda.
        progress: Whether bars are shown.
        is_restart: Throw away what an earlier run of the same name has done.
        beside: Directories of other runs, whose figures become baselines.
    """

    runs: Path = Path("runs")
    models: Path = Path("models")
    device: str = "auto"
    progress: bool = True
    is_restart: bool = False
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Problem(Generic[OfRecipe, OfData]):
    """One kind of recipe.

    Attributes:
        takes: Options of `fit` that it has a use for, beside those that all take.
        read: (recipe, folders, whether bars are shown) -> the images.
        summary: The images -> what was read, in a sentence.
        finish: (run, places) -> everything of the version but its card and manifest, in the run's `model/`; and what
            the manifest says of it.
        job: (recipe, images, device) -> the training. None where `finish` learns, in one process and on the CPU.
        check: Whether all that the recipe names exists and fits together, asked before an hour of training.
        later: Fields that training does not read, or sections with their dot.
        made_later: What a run throws away where one of those differs.
    """

    takes: tuple[str, ...]
    read: Callable[[OfRecipe, Sources, bool], OfData]
    summary: Callable[[OfData], str]
    finish: Callable[[Run[OfRecipe, OfData], Places], Finished]
    job: Callable[[OfRecipe, OfData, torch.device], Job] | None = None
    check: Callable[[OfRecipe], None] = lambda recipe: None
    later: tuple[str, ...] = ()
    made_later: tuple[str, ...] = ()


def say(metrics: Iterable[Metric]) -> None:
    """Figures on the terminal, each beside its baselines."""
    for metric in metrics:
        beside = ", ".join(f"{name} {value:.5g}" for name, value in metric.baselines.items())
        tqdm.write(f"{metric.name} {metric.value:.5g} ({metric.unit}) on {metric.data}  (beside: {beside})")
