"""`python -m training`: from a folder of images to a published model."""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from training.anomaly.config import AnomalyRecipe
from training.anomaly.fit import Images
from training.anomaly.fit import fit as fit_anomaly
from training.anomaly.recalibrate import recalibrate
from training.arguments import model_name, parse, refuse_useless
from training.compression.config import CompressionRecipe
from training.compression.fit import fit as fit_compression
from training.config import Recipe, RecipeError
from training.distributed import first_process_first, process_group, rank_and_world
from training.errors import DataError, DeviceError, PipelineError, RunError
from training.kinds import load_any_recipe
from training.photocodec.config import PhotoCodecRecipe
from training.photocodec.fit import fit as fit_photo_codec
from training.publish import newest_version
from training.restoration.config import RestorationRecipe
from training.restoration.fit import Sources, Where
from training.restoration.fit import fit as fit_restoration
from training.restoration.recalibrate import recalibrate_level
from training.run import Run, open_any_run, open_run, start_run
from training.stages import STAGES, Options, check_recipe, find_device, publish_stage
from training.trainer import TrainingError
from training.verify import verify

INTERRUPTED = 130  # the shell's status for Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 an error that was explained, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with process_group(find_device(options.device)):
            _run(options)
    except (PipelineError, RecipeError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; the same command goes on once that is mended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.stage == "verify" and (options.run / "manifest.json").exists():
        manifest = verify(options.run)
        print(f"{options.run} holds what its manifest says: {manifest.name} {manifest.version}")
        return
    if options.stage == "textbook":
        _write_textbook(options)
        return
    if options.stage == "calibrate" and options.data is not None:
        _recalibrate(options)
        return
    if options.stage == "fit":
        _fit(options)
        return
    if options.stage == "publish":
        publish_stage(open_any_run(options.run), Options(models=options.models))
        return
    _run_stages(open_run(options.run), options, [options.stage])


def _fit(options: argparse.Namespace) -> None:
    recipe = load_any_recipe(options.recipe, tuple(options.overrides))
    refuse_useless(recipe, options)
    if isinstance(recipe, RestorationRecipe):
        _fit_restoration(recipe, options)
    elif isinstance(recipe, CompressionRecipe):
        _fit_compression(recipe, options)
    elif isinstance(recipe, PhotoCodecRecipe):
        _fit_photo_codec(recipe, options)
    elif isinstance(recipe, AnomalyRecipe):
        _fit_anomaly(recipe, options)
    else:
        _run_stages(_new_run(recipe, options), options, list(STAGES))


def _run_stages(run: Run, options: argparse.Namespace, stages: list[str]) -> None:
    beside = tuple(open_run(directory) for directory in options.beside)
    settings = Options(options.device, options.models, beside, not options.quiet)
    if rank_and_world()[0] > 0:
        stages = [name for name in stages if name == "train"]  # the first process does the rest
    for name in stages:
        leaves = STAGES[name].leaves
        is_done = leaves is not None and run.path(leaves).exists()  # before this command was stopped
        asks_anew = name == "evaluate" and bool(beside)  # figures without those of `beside` are not what was asked for
        if options.stage == "fit" and is_done and not asks_anew:
            continue
        STAGES[name].run(run, settings)


def _fit_restoration(recipe: RestorationRecipe, options: argparse.Namespace) -> None:
    where = _where(recipe.name, options)
    sources = Sources(options.data, options.noisy, options.clean)
    command = _command(options, names_data=True)
    fit_restoration(recipe, options.name or recipe.name, sources, where, command=command)


def _fit_compression(recipe: CompressionRecipe, options: argparse.Namespace) -> None:
    where = _where(recipe.name, options)
    command = _command(options, names_data=recipe.data.source == "folder")
    fit_compression(recipe, options.name or recipe.name, options.data, where, command=command)


def _fit_photo_codec(recipe: PhotoCodecRecipe, options: argparse.Namespace) -> None:
    where = _where(recipe.name, options)
    command = _command(options, names_data=True)
    fit_photo_codec(recipe, options.name or recipe.name, options.data, where, command=command)


def _where(recipe: str, options: argparse.Namespace) -> Where:
    if rank_and_world()[1] > 1:
        raise RecipeError(f"recipe {recipe} trains in one process; start it without torchrun")
    return Where(options.runs, options.models, find_device(options.device), not options.quiet, options.restart)


def _fit_anomaly(recipe: AnomalyRecipe, options: argparse.Namespace) -> None:
    if options.data is None:
        raise DataError("which images? Give --data FOLDER, a folder of images of good parts")
    if options.device == "cuda":
        raise DeviceError(f"recipe {recipe.name} learns on the CPU; give --device cpu, or leave it out")
    where = replace(_where(recipe.name, options), device=torch.device("cpu"))
    fit_anomaly(
        recipe, options.name or recipe.name, _images(options), where, command=_command(options, names_data=True)
    )


def _write_textbook(options: argparse.Namespace) -> None:
    # Only here: SciPy and scikit-learn take a second to import.
    from training.textbook.page import textbook  # noqa: PLC0415
    from training.textbook.study import Study  # noqa: PLC0415

    docs = options.docs or (options.runs / "textbook-quick" if options.quick else Path("docs"))
    study = Study(
        options.data,
        models=options.models,
        runs=options.runs,
        docs=docs,
        is_quick=options.quick,
        progress=not options.quiet,
    )
    print(f"wrote {textbook(study)}")


def _recalibrate(options: argparse.Namespace) -> None:
    sources = _images(options)
    words = ["python", "-m", "training", "calibrate", str(options.run)]
    for name in ("data", "defects", "masks"):
        if folder := getattr(options, name):
            words += [f"--{name}", folder.resolve().name]
    name, command, progress = _model_name(options.run), shlex.join(words), not options.quiet
    newest = newest_version(options.models / name)
    if newest is not None and verify(newest).noise is not None:
        recalibrate_level(newest, sources.good, models=options.models, command=command, progress=progress)
        return
    recalibrate(name, sources, models=options.models, command=command, progress=progress)


def _images(options: argparse.Namespace) -> Images:
    if options.masks is not None and options.defects is None:
        raise DataError("--masks says where defects are: give the images with --defects FOLDER, too")
    return Images(options.data, options.defects, options.masks)


def _model_name(given: Path) -> str:
    try:
        return model_name(str(given))
    except argparse.ArgumentTypeError as error:
        raise RunError(f"{error}. With --data, calibrate takes the name of a published model") from error


def _new_run(recipe: Recipe, options: argparse.Namespace) -> Run:
    check_recipe(recipe)
    name = options.name or recipe.name
    with first_process_first():
        return start_run(
            options.runs / name,
            name=name,
            recipe=recipe,
            data_path=options.data,
            command=_command(options, names_data=recipe.data.source == "folder"),
            restart=options.restart,
        )


def _command(options: argparse.Namespace, *, names_data: bool) -> str:
    """What makes this model again, without paths that exist only here."""
    words = ["python", "-m", "training", "fit", options.recipe]
    for name in ("data", "noisy", "clean", "defects", "masks") if names_data else ():
        if folder := getattr(options, name):
            words += [f"--{name}", folder.resolve().name]
    if options.name:
        words += ["--name", options.name]
    if options.threads:
        words += ["--threads", str(options.threads)]
    return shlex.join([*words, *options.overrides])


if __name__ == "__main__":
    sys.exit(main())
