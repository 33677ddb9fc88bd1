"""The manifest of a model, built from the results of a run."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from service.contract.manifest import Golden, Graph, InputSpec, Manifest, Metric, Task
from service.contract.provenance import Data, Provenance, Split
from training.recipe import AnyRecipe
from training.restoration.photos import Photos
from training.run import REPORT, Run

UNSTATED = "not stated (say it with data.licence=...)"


@dataclass(frozen=True)
class Finished:
    """The results of a run for its manifest; each kind of recipe computes them in its own way.

    Attributes:
        architecture: Name of the network.
        tasks: Graphs by task.
        input: Input of the graphs.
        golden: Golden sample: small inputs with expected outputs.
        data: Description of the images.
        metrics: Metrics with their baselines.
        commit: Commit of the code that exported the graphs.
        limits: Sentences for the card, the recipe's own among them.
        sections: Other parts of the manifest by name: `latent`, `anomaly`, `compression` ...
    """

    architecture: str
    tasks: dict[Task, Graph]
    input: InputSpec
    golden: Golden
    data: Data
    metrics: Sequence[Metric]
    commit: str
    limits: Sequence[str] = ()
    sections: dict[str, Any] = field(default_factory=dict)


def build_manifest(run: Run[Any, Any], finished: Finished, *, version: int) -> Manifest:
    """Build the manifest of a model.

    Args:
        run: The run, with its training report.
        finished: Results of the stages after training.
        version: Expected version number.
    """
    recipe, report = run.recipe, run.read(REPORT, "train")
    taken = {name: report[name] for name in ("device", "parameters", "images_seen", "wall_s", "cpu_s")}
    return Manifest(
        name=run.name,
        version=version,
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture=finished.architecture,
        default_for=recipe.default_for,
        tasks=finished.tasks,
        input=finished.input,
        golden=finished.golden,
        metrics=tuple(finished.metrics),
        provenance=Provenance(
            data=finished.data,
            seed=_seed(recipe),
            config=recipe.model_dump(mode="json"),
            command=run.command,
            start=run.start,
            commit=finished.commit,
            torch_version=torch.__version__,
            **taken,
        ),
        limits=tuple(finished.limits),
        **{"latent": None, "anomaly": None, **finished.sections},
    )


def describe_data(*, name: str, source: str, licence: str, sha256: str, split: Split) -> Data:
    """Return the manifest's description of images of one size; `licence` may be empty."""
    images = split.train + split.validation + split.calibration + split.test
    return Data(name=name, source=source, licence=licence or UNSTATED, sha256=sha256, images=images, split=split)


def describe_photos(photos: Photos, licence: str) -> Data:
    """Return the manifest's description of pictures of any size."""
    split = photos.split
    source = f"a folder of {photos.count} pictures"
    return describe_data(name=photos.name, source=source, licence=licence, sha256=photos.sha256, split=split)


def git_commit() -> str:
    """Return the commit of this code, with `-dirty` if files differ from it; "unknown" outside a git checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - no input
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _seed(recipe: AnyRecipe) -> int:
    return recipe.seed if recipe.kind == "anomaly" else recipe.training.seed
