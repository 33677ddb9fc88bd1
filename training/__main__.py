"""`python -m training`: from a folder of images to a published model."""

import argparse
import inspect
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import shorten

import torch
from pydantic import TypeAdapter, ValidationError

from service.manifest import Name
from training.anomaly.benchmark import benchmark as benchmark_anomaly
from training.anomaly.config import AnomalyRecipe
from training.anomaly.fit import Images
from training.anomaly.fit import fit as fit_anomaly
from training.anomaly.recalibrate import recalibrate
from training.architectures import ARCHITECTURES
from training.compression.benchmark import benchmark as benchmark_compression
from training.compression.config import CompressionRecipe
from training.compression.fit import fit as fit_compression
from training.config import Recipe, RecipeError, recipe_names
from training.distributed import first_process_first, process_group, rank_and_world
from training.errors import DataError, PipelineError, RunError
from training.kinds import load_any_recipe
from training.latent_benchmark import benchmark_generation, benchmark_regularisation
from training.loop import TrainingError
from training.restoration.benchmark import SECTIONS
from training.restoration.benchmark import benchmark as benchmark_restoration
from training.restoration.compare import benchmark_blind
from training.restoration.config import RestorationRecipe
from training.restoration.fit import Sources, Where
from training.restoration.fit import fit as fit_restoration
from training.restoration.real import benchmark_real_noise
from training.run import Run, open_run, start_run
from training.stages import STAGES, Options, check_recipe, find_device
from training.verify import verify

BENCHMARKS: dict[str, Callable[..., None]] = {
    "anomaly": benchmark_anomaly,
    "blind": benchmark_blind,
    "compression": benchmark_compression,
    "generation": benchmark_generation,
    "real-noise": benchmark_real_noise,
    "regularisation": benchmark_regularisation,
    "restoration": benchmark_restoration,
    **{model: partial(benchmark_restoration, only=[model]) for model in SECTIONS},
}
INTERRUPTED = 130  # the shell's status for Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 an error that was explained, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
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
    if options.stage == "benchmark":
        BENCHMARKS[options.what](options.data, options.models, options.docs, is_quick=options.quick)
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
    _run_stages(open_run(options.run), options, [options.stage])


def _fit(options: argparse.Namespace) -> None:
    recipe = load_any_recipe(options.recipe, tuple(options.overrides))
    if isinstance(recipe, RestorationRecipe):
        _fit_restoration(recipe, options)
    elif isinstance(recipe, CompressionRecipe):
        _fit_compression(recipe, options)
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


def _where(recipe: str, options: argparse.Namespace) -> Where:
    if rank_and_world()[1] > 1:
        raise RecipeError(f"recipe {recipe} trains in one process; start it without torchrun")
    return Where(options.runs, options.models, find_device(options.device), not options.quiet, options.restart)


def _fit_anomaly(recipe: AnomalyRecipe, options: argparse.Namespace) -> None:
    if options.data is None:
        raise DataError("which images? Give --data FOLDER, a folder of images of good parts")
    sources = _images(options)
    command = _command(options, names_data=True)
    fit_anomaly(
        recipe, options.name or recipe.name, sources, runs=options.runs, models=options.models, command=command,
        progress=not options.quiet,
    )  # fmt: skip


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
    recalibrate(
        _model_name(options.run), sources, models=options.models, command=shlex.join(words), progress=not options.quiet
    )


def _images(options: argparse.Namespace) -> Images:
    if options.masks is not None and options.defects is None:
        raise DataError("--masks says where defects are: give the images with --defects FOLDER, too")
    return Images(options.data, options.defects, options.masks)


def _model_name(given: Path) -> str:
    try:
        return _name(str(given))
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


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)  # overrides may stand between options
    unknown = [word for word in rest if options.stage != "fit" or word.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.overrides = rest
    if options.stage == "fit":
        said = {"scale": options.scale, "data.size": options.size}
        options.overrides = [*(f"{field}={value}" for field, value in said.items() if value), *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="From a folder of images to a published autoencoder.",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="stage", required=True, metavar="command")
    fit = commands.add_parser(
        "fit",
        usage="python -m training fit RECIPE [options] [section.field=value ...]",
        help="All stages, from images to models/<name>/<version>/; goes on after a stop.",
        description="Fields of the recipe are overridden as section.field=value, for example training.epochs=3.",
    )
    fit.add_argument("recipe", help=f"one of {', '.join(recipe_names())}, or the path of a .toml file")
    fit.add_argument("--data", type=Path, help="folder of images (digits: of MNIST's four files; default: download)")
    fit.add_argument("--noisy", type=Path, help="restore: folder of bad pictures, named as in --clean")
    fit.add_argument("--clean", type=Path, help="restore: folder of good pictures")
    fit.add_argument("--scale", type=_count, default=0, help="enhance: how many times larger, 2 to 8 (default: 2)")
    fit.add_argument("--size", type=_count, default=0, help="anomaly: side of the square whose area images are seen at")
    fit.add_argument("--defects", type=Path, help="anomaly: folder of images with defects, for the figures alone")
    fit.add_argument("--masks", type=Path, help="anomaly: folder of masks, named as in --defects, defects white")
    fit.add_argument("--name", type=_name, help="the model's name (default: the recipe's)")
    fit.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    fit.add_argument("--restart", action="store_true", help="throw away what an earlier run of this name has done")
    _add_shared_options(fit)
    bench = commands.add_parser("benchmark", help="The shipped models beside their peers, on public test sets.")
    bench.add_argument("what", choices=sorted(BENCHMARKS), help="which models; restoration: all for pictures")
    bench.add_argument("--data", type=Path, required=True, help="folder with the test sets")
    bench.add_argument("--docs", type=Path, default=Path("docs"), help="whose page and pictures are made anew")
    bench.add_argument("--quick", action="store_true", help="two pictures of every set; the page stays as it is")
    _add_shared_options(bench)
    book = commands.add_parser(
        "textbook",
        help="The chapter on autoencoders, reproduced: every claim as a command, a picture and a number.",
        description="Writes textbook.md with its pictures. A stopped study goes on where it was.",
    )
    book.add_argument("--data", type=Path, help="folder with MNIST's four files (default: download)")
    book.add_argument("--quick", action="store_true", help="a small sample that comes along, in two minutes")
    book.add_argument("--runs", type=Path, default=Path("runs"), help="where networks are kept (default: runs)")
    book.add_argument("--docs", type=Path, help="where the page goes (default: docs; quick: RUNS/textbook-quick)")
    _add_shared_options(book)
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.run.__doc__)
        is_calibrate = name == "calibrate"
        also = "; with --data the name of a published model, e.g. my-part" if is_calibrate else ""
        command.add_argument("run", type=Path, help=f"the run's directory, e.g. runs/digits{also}")
        if is_calibrate:
            command.add_argument("--data", type=Path, help="good images: calibrate a published model anew on them")
            command.add_argument("--defects", type=Path, help="images with defects, for figures and charts")
            command.add_argument("--masks", type=Path, help="masks of the defects, named as in --defects, white")
        _add_shared_options(command)
    return parser


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, default=Path("models"), help="where to publish (default: models)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--threads", type=_count, default=0, help="CPU threads (default: one per core)")
    parser.add_argument(
        "--beside", type=Path, action="append", default=[], metavar="RUN", help="another run as a baseline; repeatable"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _overview() -> str:
    width = max(20, shutil.get_terminal_size().columns - 24)
    stages = [f"  {name:<12}{stage.run.__doc__}" for name, stage in STAGES.items()]
    column = max(map(len, recipe_names())) + 2
    recipes = [f"  {name:<{column}}{load_any_recipe(name).summary}" for name in recipe_names()]
    architectures = [
        line
        for name, network in ARCHITECTURES.items()
        for line in (
            f"  {name:<10}{shorten(_first_line(network), width, placeholder='...')}",
            f"  {'':<10}  options: {_options_of(network)}",
        )
    ]
    lines = [
        "fit runs these stages in order; each can run alone on a run's directory:",
        *stages,
        "",
        "recipes (any field can be overridden as section.field=value):",
        *recipes,
        "",
        "architectures (an option is overridden as architecture.options.NAME=value):",
        *architectures,
        "",
        "examples:",
        "  python -m training fit digits",
        "  python -m training fit images --data my_photos --name mine training.epochs=30",
        "  python -m training evaluate runs/mine",
        "  python -m training fit denoise --data my_photos --name my-photos",
        "  python -m training fit restore --noisy scans --clean clean_scans --name my-scans",
        "  python -m training fit blind --data my_noisy_photos --name mine  (no clean pictures)",
        "  python -m training fit enhance --data my_photos --scale 2 --name my-x2",
        "  python -m training fit anomaly --data parts/good --name my-part  (good images of parts, nothing else)",
        "  python -m training calibrate my-part --data more_good --defects some  (a new version, another threshold)",
        "  torchrun --nproc-per-node 2 -m training fit digits --threads 1",
    ]
    return "\n".join(lines)


def _first_line(network: type) -> str:
    return (network.__doc__ or "").splitlines()[0]


def _options_of(network: type) -> str:
    options = [p for p in inspect.signature(network).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in options)


def _name(text: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot name a model: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit"
        ) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads: 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
