"""The interface between `fit` and each kind of recipe."""

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
    """Directories and device of a fit.

    Attributes:
        runs: Directory of runs, one folder per name.
        models: Directory of published models.
        device: auto, cpu or cuda.
        progress: Show progress bars.
        is_restart: Discard an earlier run of the same name.
        beside: Directories of other runs, whose metrics become baselines.
    """

    runs: Path = Path("runs")
    models: Path = Path("models")
    device: str = "auto"
    progress: bool = True
    is_restart: bool = False
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Problem(Generic[OfRecipe, OfData]):
    """The functions of one kind of recipe.

    Attributes:
        takes: Options of `fit` for this kind, in addition to the common ones.
        read: (recipe, sources, progress) -> the images.
        summary: images -> a sentence about them.
        finish: (run, places) -> the results for the manifest. Writes the files of the version, except card and
            manifest, to the run's `model/`.
        job: (recipe, images, device) -> the training. None if `finish` trains, in one process on the CPU.
        check: Raise an error before training if a name in the recipe is unknown or its options are incompatible.
        later: Fields that training does not read; sections end with a dot.
        made_later: Files and folders of a run that depend on `later`, discarded if one of those fields changes.
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
    """Print metrics with their baselines."""
    for metric in metrics:
        beside = ", ".join(f"{name} {value:.5g}" for name, value in metric.baselines.items())
        tqdm.write(f"{metric.name} {metric.value:.5g} ({metric.unit}) on {metric.data}  (beside: {beside})")
