"""The directory of a run over pictures: begun once, and gone on with by the same command or one for more steps."""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.contract.manifest import Start
from training.checkpoint import CHECKPOINT
from training.errors import RunError
from training.files import write_atomically
from training.photocodec.config import PhotoCodecRecipe
from training.restoration.config import RestorationRecipe
from training.run import REPORT, RUN_FILE, SHOWN_FIELDS, RunDirectory, differences, discard
from training.schedule import free_until


class RunFile(BaseModel):
    """What a run was begun with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: Annotated[RestorationRecipe | PhotoCodecRecipe, Field(discriminator="kind")]
    data_sha256: str
    start: Start | None = None
    command: str


def start_run(directory: Path, begun: RunFile, *, is_restart: bool) -> RunDirectory:
    """A new run, or the one in `directory` where that was begun with the same.

    What only the card shows may differ, and `training.steps`, too, while the steps so far are the first of either.

    Raises:
        RunError: It was begun with another recipe, pictures or model.
    """
    if is_restart:
        discard(directory)
    run = RunDirectory(directory, begun.name)
    if run.path(RUN_FILE).exists():
        old = _read(run)
        _check(run, old, begun)
        if old.recipe.training.steps != begun.recipe.training.steps:
            run.path(REPORT).unlink(missing_ok=True)  # the training goes on, or is over earlier
    directory.mkdir(parents=True, exist_ok=True)
    with write_atomically(run.path(RUN_FILE)) as file:
        file.write(begun.model_dump_json(indent=1).encode())
    return run


def _read(run: RunDirectory) -> RunFile:
    try:
        return RunFile.model_validate_json(run.path(RUN_FILE).read_bytes())
    except ValidationError as error:
        raise RunError(f"{run.directory} is a run of another kind: give --restart, or another --name") from error


def _check(run: RunDirectory, old: RunFile, new: RunFile) -> None:
    free = (*SHOWN_FIELDS, "training.steps ") if _may_change_steps(run, old, new) else SHOWN_FIELDS
    found = [text for text in differences(old.recipe, new.recipe) if not text.startswith(free)]
    cure = "give --restart to begin anew, or another --name"
    if found and all(text.startswith("training.steps ") for text in found):
        cure = (
            "its learning rate has depended on them. To train longer, begin with what it has published: "
            f"training.start_from=models/{run.name}/1, with another --name or --restart"
        )
    if found:
        raise RunError(f"{run.directory} was begun with another recipe ({'; '.join(found)}): {cure}")
    if old.data_sha256 != new.data_sha256:
        raise RunError(f"{run.directory} was begun with other pictures ({old.data_sha256[:12]}...): {cure}")
    if old.start != new.start:
        raise RunError(f"{run.directory} was begun with the weights of another model: {cure}")


def _may_change_steps(run: RunDirectory, old: RunFile, new: RunFile) -> bool:
    path = run.path(CHECKPOINT)
    done: int = torch.load(path, weights_only=True, mmap=True)["step"] if path.exists() else 0
    return done <= min(free_until(r.training.steps, r.training) for r in (old.recipe, new.recipe))
