"""The command line of `python -m training` and its help. Nothing here needs PyTorch."""

import argparse
import sys
import tomllib
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError

from service.contract.fields import Name
from training.config import RecipeError

STAGES = {
    "train": "Images -> weights.",
    "prior": "Weights -> distribution of the latents of the training images, for `generate` to sample from.",
    "detector": "Training images -> network behind `anomaly`; it needs no weights of the autoencoder.",
    "export": "Weights -> one ONNX graph per task, compared with PyTorch; int8 if the recipe says so.",
    "evaluate": "Graphs -> figures on the test images, with those of simple baselines.",
    "calibrate": "Exported anomaly graph -> threshold, from held-out normal images.",
    "verify": "Everything -> a model directory, checked with onnxruntime alone.",
    "publish": "The checked directory -> models/<name>/<version>/, atomically.",
}
ARCHITECTURES = {
    "conv": "Strided residual convolutions with a dense bottleneck.",
    "linear": "One matrix down and one up, equivalent to PCA.",
    "mlp": "Dense layers around a dense bottleneck.",
    "unet": "Convolutions with skip connections; no latent, so it only denoises.",
}
FOLDERS = ("data", "noisy", "clean", "defects", "masks")  # of images, by option
# Options of `fit` that not every kind of recipe has a use for.
OF_SOME_KINDS = (*FOLDERS, "feedback", "scale", "size", "look", "beside")
# Options that several commands have, by command; a stage that is not named has those of `evaluate`.
OPTIONS = {
    "fit": ("models", "device", "threads", "quiet"),
    "textbook": ("models", "device", "threads", "quiet"),
    "worker": ("models",),
    "train": ("device", "threads", "quiet"),
    "calibrate": ("models", "threads", "quiet"),
    "verify": ("models",),
    "publish": ("models",),
    "evaluate": ("threads", "quiet"),
}

EXAMPLES = """\
examples:
  python -m training fit digits
  python -m training fit images --data my_photos --name mine training.epochs=30
  python -m training evaluate runs/mine
  python -m training fit denoise --data my_photos --name my-photos
  python -m training fit restore --noisy scans --clean clean_scans --name my-scans
  python -m training fit blind --data my_noisy_photos --name mine  (no clean pictures)
  python -m training fit enhance --data my_photos --scale 2 --name my-x2
  python -m training fit anomaly --data parts/good --name my-part  (good parts only)
  python -m training calibrate my-part --data more_good --defects some  (a new version with a new threshold)
  python -m training calibrate my-part --feedback http://127.0.0.1:8000  (the same, from feedback)
  python -m training worker --service http://127.0.0.1:8000  (runs trainings started on its page)
  torchrun --nproc-per-node 2 -m training fit digits --threads 1"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse one command line; overrides of a recipe's fields are in `overrides`.

    Exit the process on mistakes.

    Args:
        arguments: The words after `python -m training`.
    """
    for asks, field in pairwise(arguments):
        if asks in {"-h", "--help"} and not field.startswith("-"):
            _explain(field)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)  # overrides may be between options
    unknown = [word for word in rest if options.stage != "fit" or word.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.stage == "calibrate" and options.data is None and (options.defects or options.masks):
        parser.error("--defects and --masks are for calibrating a published model: give --data, too")
    if getattr(options, "feedback", None) and (options.defects or options.masks):
        parser.error("--feedback includes defects and masks: leave out --defects and --masks")
    if hasattr(options, "feedback") and options.key and not options.feedback:
        parser.error("--key is for --feedback: give the address of the service there")
    if options.stage == "calibrate" and options.feedback and options.data:
        parser.error("--feedback and --data: calibrate on one of them, then on the other with a second command")
    options.overrides = rest
    if options.stage == "fit":
        said = {"scale": options.scale, "data.size": options.size, "data.look": options.look}
        options.overrides = [*(f"{field}={value}" for field, value in said.items() if value), *rest]
    return options


def _explain(field: str) -> NoReturn:
    from training.fields import explain  # noqa: PLC0415 - the recipes need PyTorch, which takes seconds

    try:
        sys.stdout.write(explain(field) + "\n")
    except RecipeError as error:
        sys.exit(f"error: {error}")
    sys.exit(0)


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
        help="Run all stages, from images to models/<name>/<version>/; resumes after an interruption.",
        description="Override fields of the recipe with section.field=value, for example training.epochs=3; "
        "--help training.epochs, or --help training, explains them.",
    )
    fit.add_argument("recipe", help=f"one of {', '.join(_summaries())}, or the path of a .toml file")
    fit.add_argument(
        "--data", type=Path, help="folder of images (digits: folder of MNIST's four files; default: download)"
    )
    fit.add_argument("--noisy", type=Path, help="restore: folder of degraded pictures, named as in --clean")
    fit.add_argument("--clean", type=Path, help="restore: folder of clean pictures")
    fit.add_argument("--scale", type=_count, default=0, help="enhance: scale factor, 2 to 8 (default: 2)")
    fit.add_argument(
        "--size", type=_count, default=0, help="anomaly: images are resized to the area of a square of this side"
    )
    fit.add_argument(
        "--look", default="", metavar="MASK", help="anomaly: a picture that is white in the region of interest"
    )
    fit.add_argument(
        "--defects",
        type=Path,
        help="anomaly: folder of images with defects, for figures; with learn_defects=true also for the score",
    )
    fit.add_argument("--masks", type=Path, help="anomaly: folder of masks, white on defects, named as in --defects")
    _add_feedback(fit, "anomaly: also train on pictures marked as fine at this service")
    fit.add_argument("--name", type=model_name, help="the model's name (default: the recipe's)")
    fit.add_argument("--runs", type=Path, help="directory of runs (default: runs)")
    fit.add_argument("--restart", action="store_true", help="discard an earlier run of this name")
    book = commands.add_parser(
        "textbook",
        help="Reproduce a chapter on autoencoders: every claim as a command, a picture and a number.",
        description="Write textbook.md with its pictures. An interrupted study resumes.",
    )
    book.add_argument("--data", type=Path, help="folder with MNIST's four files (default: download)")
    book.add_argument("--quick", action="store_true", help="use the included sample; takes two minutes")
    book.add_argument("--runs", type=Path, help="directory of networks (default: runs)")
    book.add_argument("--docs", type=Path, help="directory of the page (default: docs; quick: RUNS/textbook-quick)")
    for name, does in STAGES.items():
        command = commands.add_parser(name, help=does)
        is_calibrate = name == "calibrate"
        also = "; with --data or --feedback, the name of a published model, e.g. my-part" if is_calibrate else ""
        command.add_argument("run", type=Path, help=f"directory of the run, e.g. runs/digits{also}")
        if is_calibrate:
            command.add_argument(
                "--data",
                type=Path,
                help="calibrate on these images: good ones, or photographs for a denoiser",
            )
            command.add_argument("--defects", type=Path, help="images with defects, used for figures and charts")
            command.add_argument("--masks", type=Path, help="masks, white on defects, named as in --defects")
            _add_feedback(command, "calibrate on the pictures marked as fine at this service")
    worker = commands.add_parser(
        "worker",
        help="Run the trainings that users start on the page of a service, one at a time.",
        description="Each makes a version that goes live once it is approved on the page.",
    )
    worker.add_argument(
        "--service", required=True, metavar="URL", help="address of the service, e.g. http://127.0.0.1:8000"
    )
    worker.add_argument("--key", default="", help="one of the service's api_keys (default: $HGCLIENT_KEY)")
    worker.add_argument(
        "--data", type=Path, help="folder of good pictures to add to feedback: DATA/NAME for model NAME"
    )
    worker.add_argument("--runs", type=Path, help="directory of versions to be approved (default: runs)")
    worker.add_argument("--name", default="", help="name of this worker on the page (default: the host name)")
    unsaid = {"beside": [], "restart": False, "runs": Path("runs"), "device": "auto", "threads": 0, "quiet": False}
    for name, command in commands.choices.items():
        _add_shared_options(command, OPTIONS.get(name, OPTIONS["evaluate"]))
        command.set_defaults(models=Path("models"), **unsaid)
    for command in (fit, commands.choices["evaluate"]):
        command.add_argument(
            "--beside", type=Path, action="append", metavar="RUN", help="also show the figures of this run; repeatable"
        )
    return parser


def _add_feedback(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument("--feedback", metavar="URL", help=does)
    parser.add_argument("--key", default="", help="a key of the service with write access (default: $HGCLIENT_KEY)")


def _add_shared_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    if "models" in names:
        parser.add_argument("--models", type=Path, help="directory of published models (default: models)")
    if "device" in names:
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    if "threads" in names:
        parser.add_argument("--threads", type=_count, help="CPU threads (default: one per core)")
    if "quiet" in names:
        parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _overview() -> str:
    summaries = _summaries()
    column = max(map(len, summaries)) + 2
    lines = [
        "fit runs these stages in order; each can run alone on a run's directory:",
        *(f"  {name:<12}{does}" for name, does in STAGES.items()),
        "",
        "recipes (any field can be overridden as section.field=value):",
        *(f"  {name:<{column}}{summary}" for name, summary in summaries.items()),
        "",
        "architectures (an option is overridden as architecture.options.NAME=value; --help architecture has them all):",
        *(f"  {name:<10}{what}" for name, what in ARCHITECTURES.items()),
        "",
        EXAMPLES,
    ]
    return "\n".join(lines)


def _summaries() -> dict[str, str]:
    """Return the summaries of the shipped recipes, by name."""
    files = sorted(resources.files("training").joinpath("recipes").iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8"))["summary"]
        for file in files
        if file.name.endswith(".toml")
    }


def model_name(text: str) -> str:
    """Return the text if it is a valid model name.

    Raises:
        ArgumentTypeError: The name is not valid.
    """
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid model name: use up to 63 of a-z, 0-9, - and _, starting with a letter or digit"
        ) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)
