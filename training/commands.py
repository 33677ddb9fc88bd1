"""The commands of `python -m training`."""

import argparse
import os
import shlex
import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from training.arguments import FOLDERS, OF_SOME_KINDS, model_name
from training.config import RecipeError
from training.devices import find_device
from training.distributed import process_group, rank_and_world
from training.errors import RunError
from training.feedback import fetch_feedback
from training.kinds import PROBLEMS
from training.problems.one_size_model import LATER_STAGES, assemble
from training.problems.problem import Places
from training.recipe import AnyRecipe, load_recipe
from training.run import Sources
from training.stages import calibrate, fit, make_version, open_run, publish_stage, train_stage
from training.textbook.page import textbook
from training.textbook.study import Study
from training.verify import verify
from training.worker import Workplace, work


def run(options: argparse.Namespace) -> None:
    """Run one command, in as many processes as torchrun has started.

    Raises:
        RecipeError, PipelineError: The command failed for a reason that the user can fix.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    with process_group(find_device(options.device)):
        if options.stage == "fit":
            _fit(options)
        elif options.stage == "worker":
            _work(options)
        elif options.stage == "textbook":
            _write_textbook(options)
        elif options.stage == "calibrate" and (options.data is not None or options.feedback):
            _recalibrate(options)
        elif options.stage == "verify" and (options.run / "manifest.json").exists():
            manifest = verify(options.run)
            print(f"{options.run} holds what its manifest says: {manifest.name} {manifest.version}")  # noqa: T201
        else:
            _run_stage(options)


def _fit(options: argparse.Namespace) -> None:
    recipe = load_recipe(options.recipe, tuple(options.overrides))
    _refuse_useless(recipe, options)
    sources = Sources(**{name: getattr(options, name) for name in FOLDERS})
    names_data = getattr(recipe.data, "source", "") != "mnist"  # which is downloaded where it is not given
    command = _command(options, names_data=names_data)
    with _with_feedback(options, options.name or recipe.name, sources) as read:
        fit(recipe, read, _places(options), name=options.name, command=command)


def _with_feedback(options: argparse.Namespace, name: str, sources: Sources) -> AbstractContextManager[Sources]:
    """Add the feedback on the model's pictures to the sources, if the options ask for it."""
    if not options.feedback:
        return nullcontext(sources)
    return fetch_feedback(options.feedback, name, key=_key(options), also=sources.data)


def _key(options: argparse.Namespace) -> str:
    return options.key or os.environ.get("HGCLIENT_KEY", "")


def _work(options: argparse.Namespace) -> None:
    work(
        Workplace(
            service=options.service,
            key=_key(options),
            models=options.models,
            runs=options.runs,
            data=options.data,
            name=options.name or socket.gethostname()[:100],
        )
    )


def _refuse_useless(recipe: AnyRecipe, options: argparse.Namespace) -> None:
    takes = PROBLEMS[recipe.kind].takes
    useless = [f"--{name}" for name in OF_SOME_KINDS if getattr(options, name) and name not in takes]
    if useless:
        raise RecipeError(
            f"recipe {recipe.name} (kind {recipe.kind}) has no use for {', '.join(useless)}; it takes "
            f"{', '.join(f'--{name}' for name in takes)}"
        )


def _run_stage(options: argparse.Namespace) -> None:
    run, places = open_run(options.run), _places(options)
    if options.stage == "publish":
        publish_stage(run, places)
        return
    if run.recipe.kind != "autoencode":
        raise RunError(
            f"{options.run} is a run of kind {run.recipe.kind}, which has no stages: give its `fit` command again, or "
            f"`python -m training publish {options.run}` for what it has finished"
        )
    if options.stage == "train":
        train_stage(run, places)
    elif rank_and_world()[0] > 0:
        return  # the first process does the rest
    elif options.stage == "verify":
        make_version(run, places, assemble)
    else:
        stage, _ = LATER_STAGES[options.stage]
        stage(run, places)


def _places(options: argparse.Namespace) -> Places:
    return Places(
        runs=options.runs,
        models=options.models,
        device=options.device,
        progress=not options.quiet,
        is_restart=options.restart,
        beside=tuple(options.beside),
    )


def _write_textbook(options: argparse.Namespace) -> None:
    study = Study(
        options.data,
        models=options.models,
        runs=options.runs,
        docs=options.docs or (options.runs / "textbook-quick" if options.quick else Path("docs")),
        is_quick=options.quick,
        progress=not options.quiet,
    )
    print(f"wrote {textbook(study)}")  # noqa: T201 - what a command prints


def _recalibrate(options: argparse.Namespace) -> None:
    try:
        name = model_name(str(options.run))
    except argparse.ArgumentTypeError as error:
        raise RunError(f"{error}. With --data or --feedback, calibrate takes the name of a published model") from error
    sources = Sources(data=options.data, defects=options.defects, masks=options.masks)
    words = ["python", "-m", "training", "calibrate", name, *_folders(options)]
    with _with_feedback(options, name, sources) as read:
        calibrate(name, read, models=options.models, command=shlex.join(words), progress=not options.quiet)


def _command(options: argparse.Namespace, *, names_data: bool) -> str:
    """Return the command that reproduces this model, without local paths."""
    words = ["python", "-m", "training", "fit", options.recipe, *(_folders(options) if names_data else ())]
    if options.name:
        words += ["--name", options.name]
    if options.threads:
        words += ["--threads", str(options.threads)]
    return shlex.join([*words, *options.overrides])


def _folders(options: argparse.Namespace) -> list[str]:
    given = [(name, folder) for name in FOLDERS if (folder := getattr(options, name, None))]
    words = [word for name, folder in given for word in (f"--{name}", folder.resolve().name)]
    return [*words, "--feedback", "URL"] if options.feedback else words
