"""A run directory: where a model is being made, stage by stage, and what each stage left behind."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from training.config import Recipe
from training.data import Dataset, load_data
from training.distributed import rank_and_world
from training.errors import RunError
from training.files import write_atomically

RUN_FILE = "run.json"
REPORT, EVALUATION = "report.json", "evaluation.json"
GRAPHS, CALIBRATION, MODEL = "graphs.json", "calibration.json", "model"
PRIOR, DETECTOR, START = "prior.pt", "detector.pt", "start.json"

AnyFile = TypeVar("AnyFile", bound=BaseModel)


class _RunFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: Recipe
    data_path: str | None
    data_sha256: str
    command: str


class _AnyRunFile(BaseModel):
    """What stands in the run file of every kind of model; recipes that are not made in stages say their kind."""

    name: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class RunDirectory:
    """A model in the making: the directory that holds what its stages leave, and the name that it will have."""

    directory: Path
    name: str

    def path(self, file: str) -> Path:
        """Where the run keeps `file`."""
        return self.directory / file

    def read(self, file: str, made_by: str) -> Any:  # noqa: ANN401 - JSON; every reader validates it
        """What an earlier stage wrote.

        Raises:
            RunError: It has not run yet.
        """
        try:
            return json.loads(self.path(file).read_bytes())
        except FileNotFoundError as error:
            raise RunError(
                f"{self.directory} has no {file}: run `python -m training {made_by} {self.directory}` first"
            ) from error

    def write(self, file: str, content: object) -> None:
        """Keep `content` as JSON for later stages."""
        with write_atomically(self.path(file)) as out:
            out.write(json.dumps(content, indent=1).encode())


@dataclass(frozen=True)
class Run(RunDirectory):
    """A model of images of one size in the making: its recipe and its images beside the directory."""

    recipe: Recipe
    data_path: Path | None
    command: str

    @cached_property
    def data(self) -> Dataset:
        """The images, read when first needed."""
        return load_data(self.recipe.data, self.data_path, seed=self.recipe.training.seed)


# Fields of a recipe that no stage before publishing reads.
SHOWN_FIELDS = ("summary ", "default_for ", "limits ")
# And those that training does not read: where one differs, everything after the weights is done again.
LATER_FIELDS = ("export.", "prior.", "tasks ")


def start_run(
    directory: Path, *, name: str, recipe: Recipe, data_path: Path | None, command: str, restart: bool
) -> Run:
    """A new run in `directory`, or the one already there if it has the same recipe and images.

    Where only the recipe's `tasks`, `[prior]` or `[export]` differ, the weights are kept and everything after them is
    done again. What only the card and the service see may differ, too: then a new version is published.

    Raises:
        RunError: Another recipe or other images were used there, and `restart` is not set; or it is set and
            `directory` holds something else than a run.
        DataError: The images cannot be used.
    """
    run = Run(directory, name, recipe, data_path.resolve() if data_path else None, command)
    is_first = rank_and_world()[0] == 0
    if restart and is_first:
        discard(directory)
    new = _RunFile(
        name=name,
        recipe=recipe,
        data_path=str(run.data_path) if run.data_path else None,
        data_sha256=run.data.sha256,
        command=command,
    )
    is_exported_anew = False
    if run.path(RUN_FILE).exists():
        old = _read(directory)
        cure = "give --restart to begin anew, or another --name"
        changes = differences(old.recipe, recipe)
        is_exported_anew = any(text.startswith(LATER_FIELDS) for text in changes)
        differing = [text for text in changes if not text.startswith((*LATER_FIELDS, *SHOWN_FIELDS))]
        if differing:
            raise RunError(f"{directory} was begun with another recipe ({'; '.join(differing)}): {cure}")
        if old.data_sha256 != new.data_sha256:
            raise RunError(f"{directory} was begun with other images (digest {old.data_sha256[:12]}...): {cure}")
    if not is_first:
        return run
    directory.mkdir(parents=True, exist_ok=True)
    if is_exported_anew:
        for made_of_weights in (PRIOR, GRAPHS, EVALUATION, CALIBRATION):
            run.path(made_of_weights).unlink(missing_ok=True)
        shutil.rmtree(run.path(MODEL), ignore_errors=True)  # or `publish` alone would publish the old graphs
    with write_atomically(run.path(RUN_FILE)) as file:
        file.write(new.model_dump_json(indent=1).encode())
    return run


def open_run(directory: Path) -> Run:
    """The run in `directory`.

    Raises:
        RunError: There is none.
    """
    old = _read(directory)
    return Run(directory, old.name, old.recipe, Path(old.data_path) if old.data_path else None, old.command)


def open_any_run(directory: Path) -> RunDirectory:
    """The run in `directory`, of whatever kind.

    Raises:
        RunError: There is none.
    """
    return RunDirectory(directory, _read_any(directory).name)


def discard(directory: Path) -> None:
    """Removes a run.

    Raises:
        RunError: `directory` holds something else.
    """
    if not directory.exists():
        return
    if not (directory / RUN_FILE).exists() and any(directory.iterdir()):
        raise RunError(
            f"{directory} is no run (it has no {RUN_FILE}), so --restart leaves it alone; give another --name"
        )
    shutil.rmtree(directory)


def _read(directory: Path) -> _RunFile:
    kind = _read_any(directory).recipe.get("kind")
    if kind is not None:
        raise RunError(
            f"{directory} is a run of kind {kind}, which has no stages: give its `fit` command again, or "
            f"`python -m training publish {directory}` for what it has finished"
        )
    return _parsed(_RunFile, directory)


def _read_any(directory: Path) -> _AnyRunFile:
    return _parsed(_AnyRunFile, directory)


def _parsed(kind: type[AnyFile], directory: Path) -> AnyFile:
    try:
        return kind.model_validate_json((directory / RUN_FILE).read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{directory} is no run: `python -m training fit <recipe>` makes one") from error
    except ValidationError as error:
        raise RunError(f"{directory / RUN_FILE} cannot be read: {error}") from error


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """What differs between two recipes, in words."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return [
        f"{key} was {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
