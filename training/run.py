"""A run directory: a model in training, with the results of each stage."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from service.contract.provenance import Start
from training.checkpoint import CHECKPOINT
from training.compression.photo_config import PhotoCodecRecipe
from training.distributed import rank_and_world
from training.errors import RunError
from training.files import write_atomically
from training.recipe import AnyRecipe, RecipeField
from training.restoration.config import RestorationRecipe
from training.schedule import free_until

RUN_FILE, REPORT, MODEL = "run.json", "report.json", "model"
GRAPHS, EVALUATION, CALIBRATION = "graphs.json", "evaluation.json", "calibration.json"
PRIOR, DETECTOR = "prior.pt", "detector.pt"
START = "start.json"  # of runs that were begun when the run file did not hold it
# Fields of a recipe that no stage before publishing reads.
SHOWN_FIELDS = ("summary ", "default_for ", "limits ")

OfRecipe = TypeVar("OfRecipe", bound=BaseModel)
OfData = TypeVar("OfData")


class Sources(BaseModel):
    """Folders of images: `noisy` and `clean` for pairs, `data` for all other kinds; `defects` and `masks` for parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path | None = None
    noisy: Path | None = None
    clean: Path | None = None
    defects: Path | None = None
    masks: Path | None = None


class RunFile(BaseModel):
    """The recipe, images and command of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: RecipeField
    sources: Sources = Sources()
    data_sha256: str
    start: Start | None = None
    command: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, fields: Any) -> Any:  # noqa: ANN401 - JSON, not yet checked
        """Read a run file of an older release, which had `data_path` instead of sources."""
        if isinstance(fields, dict) and "data_path" in fields:
            fields = {**fields, "sources": {"data": fields["data_path"]}}
            del fields["data_path"]
        return fields


@dataclass(frozen=True)
class RunDirectory:
    """The directory with the results of a run's stages, and the name of its model."""

    directory: Path
    name: str

    def path(self, file: str) -> Path:
        """Return the path of `file` in the run."""
        return self.directory / file

    def read(self, file: str, made_by: str) -> Any:  # noqa: ANN401 - JSON; every reader validates it
        """Read the results of an earlier stage.

        Raises:
            RunError: The stage has not run yet.
        """
        self.need(file, made_by)
        return json.loads(self.path(file).read_bytes())

    def need(self, file: str, made_by: str) -> None:
        """Raise an error unless an earlier stage has written `file`.

        Raises:
            RunError: The file is missing.
        """
        if not self.path(file).exists():
            raise RunError(f"{self.directory} has no {file}: run `python -m training {made_by} {self.directory}` first")

    def write(self, file: str, content: object) -> None:
        """Store `content` as JSON for later stages."""
        with write_atomically(self.path(file)) as out:
            out.write(json.dumps(content, indent=1).encode())


@dataclass(frozen=True)
class Run(RunDirectory, Generic[OfRecipe, OfData]):
    """A run with its recipe and its images, which are read on first use."""

    recipe: OfRecipe
    load: Callable[[], OfData]
    command: str = ""
    start: Start | None = field(default=None)

    @cached_property
    def data(self) -> OfData:
        """The images of the run."""
        return self.load()


def start_run(
    directory: Path, begun: RunFile, *, later: tuple[str, ...] = (), made_later: tuple[str, ...] = (), is_restart: bool
) -> None:
    """Start a run in `directory`, or resume the one there if its recipe and images are the same.

    Fields that only the card shows may differ. `training.steps` may differ if the steps so far do not depend on it.

    Args:
        directory: Directory of the run.
        begun: Recipe, images and command of the new run.
        later: Fields of the recipe that training does not read; sections end with a dot. They may differ, too.
        made_later: Files and folders to discard if one of `later` differs.
        is_restart: Discard the existing run.

    Raises:
        RunError: The existing run has another recipe, other images or another model; or `is_restart` is set and
            `directory` is not a run.
    """
    if rank_and_world()[0] > 0:  # the first process does it
        return
    if is_restart:
        discard(directory)
    if (directory / RUN_FILE).exists():
        old = read_run_file(directory)
        changes = differences(old.recipe, begun.recipe)
        _refuse_another(
            directory, old, begun, [text for text in changes if not text.startswith((*later, *SHOWN_FIELDS))]
        )
        if any(text.startswith(later) for text in changes):
            for name in made_later:
                _remove(directory / name)
        if any(text.startswith("training.steps ") for text in changes):
            _remove(directory / REPORT)  # the training goes on, or is over earlier
    directory.mkdir(parents=True, exist_ok=True)
    with write_atomically(directory / RUN_FILE) as file:
        file.write(begun.model_dump_json(indent=1).encode())


def read_run_file(directory: Path) -> RunFile:
    """Read the recipe, images and command of the run in `directory`.

    Raises:
        RunError: The directory has no run.
    """
    try:
        begun = RunFile.model_validate_json((directory / RUN_FILE).read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{directory} is no run: `python -m training fit <recipe>` makes one") from error
    except ValidationError as error:
        raise RunError(f"{directory / RUN_FILE} cannot be read: {error}") from error
    if begun.start is None and (directory / START).exists():
        start = Start.model_validate_json((directory / START).read_bytes())
        return begun.model_copy(update={"start": start})
    return begun


def discard(directory: Path) -> None:
    """Remove a run.

    Raises:
        RunError: `directory` is not a run.
    """
    if not directory.exists():
        return
    if not (directory / RUN_FILE).exists() and any(directory.iterdir()):
        raise RunError(
            f"{directory} is no run (it has no {RUN_FILE}), so --restart leaves it alone; give another --name"
        )
    shutil.rmtree(directory)


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Return descriptions of the fields that differ between two recipes."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return [
        f"{key} was {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _refuse_another(directory: Path, old: RunFile, new: RunFile, differing: list[str]) -> None:
    cure = "give --restart to start again, or another --name"
    steps = [text for text in differing if text.startswith("training.steps ")]
    if steps and _may_change_steps(directory, old.recipe, new.recipe):
        differing = [text for text in differing if text not in steps]
    elif steps and steps == differing:
        cure = (
            "its learning rate has depended on them. To train longer, begin with what it has published: "
            f"training.start_from=models/{new.name}/1, with another --name or --restart"
        )
    if differing:
        raise RunError(f"{directory} was begun with another recipe ({'; '.join(differing)}): {cure}")
    if old.data_sha256 != new.data_sha256:
        raise RunError(f"{directory} was begun with other images (digest {old.data_sha256[:12]}...): {cure}")
    if old.start is not None and old.start != new.start:
        raise RunError(f"{directory} was begun with the weights of another model: {cure}")


def _may_change_steps(directory: Path, old: AnyRecipe, new: AnyRecipe) -> bool:
    path = directory / CHECKPOINT
    done: int = torch.load(path, weights_only=True, mmap=True)["step"] if path.exists() else 0
    counted = [r.training for r in (old, new) if isinstance(r, RestorationRecipe | PhotoCodecRecipe)]
    return len(counted) == 2 and done <= min(free_until(training.steps, training) for training in counted)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
