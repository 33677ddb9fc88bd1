"""From a recipe and folders of images to a published model. Completed stages are not repeated."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.contract.manifest import Manifest
from training.anomaly.recalibrate import recalibrate
from training.checkpoint import CHECKPOINT
from training.config import RecipeError
from training.devices import device_name, find_device
from training.distributed import first_process_first, rank_and_world
from training.errors import DataError, DeviceError, RunError
from training.kinds import PROBLEMS
from training.manifest import Finished, build_manifest
from training.problems.problem import Places
from training.publish import discard_folder, newest_version, next_version, publish, write_card_and_manifest
from training.recipe import AnyRecipe
from training.restoration.recalibrate import recalibrate_level
from training.run import MODEL, REPORT, Run, RunDirectory, RunFile, Sources, read_run_file, start_run
from training.start import load_start, read_start
from training.trainer import train
from training.verify import verify

MOST_SKIPPED = 20  # files that are named; of the others there is the number

AnyRun = Run[Any, Any]  # of any kind of recipe and images


def fit(
    recipe: AnyRecipe, sources: Sources, places: Places | None = None, *, name: str | None = None, command: str = ""
) -> Path:
    """Train a model and publish it; an interrupted fit resumes.

    Under torchrun every process calls this. The first one publishes the model, the others return the run's directory.

    Args:
        recipe: Recipe of the model.
        sources: Folders of images.
        places: Directories and device. None: `runs`, `models`, and CUDA if available.
        name: Model name; None for the recipe's.
        command: Command line that reproduces the model, for the card.

    Returns:
        The directory of the new version.

    Raises:
        RecipeError: A name in the recipe is unknown, or its options are incompatible.
        DataError: The images cannot be used.
        RunError: The run's directory belongs to another recipe or other images.
        DeviceError, TrainingError, ExportError, VerifyError, PublishError: That stage failed.
    """
    problem, places = PROBLEMS[recipe.kind], places or Places()
    problem.check(recipe)
    if problem.job is None and rank_and_world()[1] > 1:
        raise RecipeError(f"recipe {recipe.name} learns in one process; start it without torchrun")
    if problem.job is None and places.device == "cuda":
        raise DeviceError(f"recipe {recipe.name} learns on the CPU; give --device cpu, or leave it out")
    with first_process_first():
        run = begin(recipe, sources, places, name=name or recipe.name, command=command)
    if problem.job is not None and not run.path(REPORT).exists():
        train_stage(run, places)
    if rank_and_world()[0] > 0:
        return run.directory
    make_version(run, places, problem.finish)
    return publish_stage(run, places)


def calibrate(
    name: str, sources: Sources, *, models: Path = Path("models"), command: str = "", progress: bool = True
) -> Path:
    """Publish the next version of a model, calibrated on other images, and return its directory.

    Args:
        name: Model name.
        sources: `data` are good images outside the detector's training set (`defects` and `masks` are for its metrics
            and charts), or photographs for a model that takes the noise level.
        models: Directory of published models.
        command: Command line that reproduces the version, for the card.
        progress: Show progress bars.

    Raises:
        RunError: The model is missing, or cannot be calibrated.
        DataError: The images cannot be used.
        VerifyError, PublishError: The version is broken, or cannot be written.
    """
    newest = newest_version(models / name)
    if newest is None or verify(newest).noise is None:
        return recalibrate(name, sources, models=models, command=command, progress=progress)
    if sources.data is None:
        raise DataError("which photographs? Give --data FOLDER")
    return recalibrate_level(newest, sources.data, models=models, command=command, progress=progress)


def begin(recipe: AnyRecipe, sources: Sources, places: Places, *, name: str, command: str) -> AnyRun:
    """Start a run, or resume an existing one with the same recipe and images.

    Raises:
        DataError: The images cannot be used.
        RunError: The existing run has another recipe, other images or another model.
    """
    problem, directory = PROBLEMS[recipe.kind], places.runs / name
    sources = Sources.model_validate({field: path.resolve() for field, path in sources if path is not None})
    start_from = _start_from(recipe)
    start = read_start(start_from) if start_from else None
    load = partial(problem.read, recipe, sources, places.progress)
    run = Run(directory, name, recipe, load, command, start)
    _say_what_was_read(run, problem.summary(run.data))
    begun = RunFile(
        name=name, recipe=recipe, sources=sources, data_sha256=run.data.sha256, start=start, command=command
    )
    is_new = places.is_restart or problem.job is None  # what is trained in minutes starts from scratch every time
    start_run(directory, begun, later=problem.later, made_later=problem.made_later, is_restart=is_new)
    return run


def open_run(directory: Path) -> AnyRun:
    """Open the run in `directory`, of any kind.

    Raises:
        RunError: The directory has no run.
    """
    begun = read_run_file(directory)
    load = partial(PROBLEMS[begun.recipe.kind].read, begun.recipe, begun.sources, False)
    return Run(directory, begun.name, begun.recipe, load, begun.command, begun.start)


def train_stage(run: AnyRun, places: Places) -> None:
    """Train the weights on the images."""
    problem, device = PROBLEMS[run.recipe.kind], find_device(places.device)
    if problem.job is None:
        raise RunError(f"a run of kind {run.recipe.kind} has no such stage: give its `fit` command again")
    job = problem.job(run.recipe, run.data, device)
    start_from = _start_from(run.recipe)
    if start_from and not run.path(CHECKPOINT).exists():
        load_start(job.network, start_from)
    report = train(job, run_dir=run.directory, device=device, progress=places.progress)
    if rank_and_world()[0] == 0:
        run.write(REPORT, {**asdict(report), "device": device_name(device)})


def make_version(run: AnyRun, places: Places, finish: Callable[[AnyRun, Places], Finished]) -> Manifest:
    """Assemble a version in the run's `model/`, with card and manifest, and verify it with onnxruntime."""
    directory = run.path(MODEL)
    discard_folder(directory)
    try:
        finished = finish(run, places)
        manifest = build_manifest(run, finished, version=next_version(places.models / run.name))
        write_card_and_manifest(directory, manifest)
        return verify(directory)
    except Exception:
        shutil.rmtree(directory, ignore_errors=True)  # nothing half made is left for `publish`
        raise


def publish_stage(run: RunDirectory, places: Places) -> Path:
    """Publish the verified directory as models/<name>/<version>/, atomically."""
    verify(run.path(MODEL))
    target = publish(run, places.models)
    verify(target)
    tqdm.write(f"published {target}")
    tqdm.write(f"next: python -m service --models-dir {shlex.quote(str(places.models))}")
    return target


def _start_from(recipe: AnyRecipe) -> Path | None:
    start_from: Path | None = getattr(getattr(recipe, "training", None), "start_from", None)  # some kinds have none
    return start_from


def _say_what_was_read(run: AnyRun, summary: str) -> None:
    if rank_and_world()[0] > 0:
        return
    skipped = run.data.skipped
    for one in skipped[:MOST_SKIPPED]:
        tqdm.write(f"skipped {one}")
    if len(skipped) > MOST_SKIPPED:
        tqdm.write(f"skipped {len(skipped) - MOST_SKIPPED} more")
    tqdm.write(f"{run.data.name}: {summary}")
