"""The command line of `python -m training`, and the help that teaches it. Nothing here needs PyTorch."""

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
    "prior": "Weights -> where the latents of the training images lie, for `generate` to draw from.",
    "detector": "Training images -> what `anomaly` answers with; it needs no weights of the autoencoder.",
    "export": "Weights -> one ONNX graph per task, compared with PyTorch; int8 if the recipe says so.",
    "evaluate": "Graphs -> figures on the test images beside free baselines.",
    "calibrate": "Exported anomaly graph -> threshold, from normal images kept back for it.",
    "verify": "Everything -> a model directory, checked with onnxruntime alone.",
    "publish": "The checked directory -> models/<name>/<version>/, all at once.",
}
ARCHITECTURES = {
    "conv": "Strided residual convolutions with a dense bottleneck.",
    "linear": "One matrix down and one up: what PCA can do.",
    "mlp": "Dense layers around a dense bottleneck.",
    "unet": "Convolutions with skip connections; no latent, so it only denoises.",
}
FOLDERS = ("data", "noisy", "clean", "defects", "masks")  # of images, by option
OF_SOME_KINDS = (
    *FOLDERS,
    "feedback",
    "scale",
    "size",
    "look",
    "beside",
)  # options of `fit` that not every kind of recipe has a use for

EXAMPLES = """\
examples:
  python -m training fit digits
  python -m training fit images --data my_photos --name mine training.epochs=30
  python -m training evaluate runs/mine
  python -m training fit denoise --data my_photos --name my-photos
  python -m training fit restore --noisy scans --clean clean_scans --name my-scans
  python -m training fit blind --data my_noisy_photos --name mine  (no clean pictures)
  python -m training fit enhance --data my_photos --scale 2 --name my-x2
  python -m training fit anomaly --data parts/good --name my-part  (good images of parts, nothing else)
  python -m training calibrate my-part --data more_good --defects some  (a new version, another threshold)
  python -m training calibrate my-part --feedback http://127.0.0.1:8000  (the same, on what people called fine)
  python -m training worker --service http://127.0.0.1:8000  (does what people ask for on its page)
  torchrun --nproc-per-node 2 -m training fit digits --threads 1"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what one command line asks for; overrides of a recipe's fields are in `overrides`.

    Ends the process on mistakes.

    Args:
        arguments: The words after `python -m training`.
    """
    for asks, field in pairwise(arguments):
        if asks in {"-h", "--help"} and not field.startswith("-"):
            _explain(field)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)  # overrides may stand between options
    unknown = [word for word in rest if options.stage != "fit" or word.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.stage == "calibrate" and options.data is None and (options.defects or options.masks):
        parser.error("--defects and --masks are for a published model that is calibrated anew: give --data, too")
    if getattr(options, "feedback", None) and (options.defects or options.masks):
        parser.error("--feedback brings its own defects and masks: leave out --defects and --masks")
    if options.stage == "calibrate" and options.feedback and options.data:
        parser.error("--feedback and --data: calibrate on one of them; a second command can follow with the other")
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
        help="All stages, from images to models/<name>/<version>/; goes on after a stop.",
        description="Fields of the recipe are overridden as section.field=value, for example training.epochs=3; "
        "--help training.epochs, or --help training, says what they mean.",
    )
    fit.add_argument("recipe", help=f"one of {', '.join(_summaries())}, or the path of a .toml file")
    fit.add_argument("--data", type=Path, help="folder of images (digits: of MNIST's four files; default: download)")
    fit.add_argument("--noisy", type=Path, help="restore: folder of bad pictures, named as in --clean")
    fit.add_argument("--clean", type=Path, help="restore: folder of good pictures")
    fit.add_argument("--scale", type=_count, default=0, help="enhance: how many times larger, 2 to 8 (default: 2)")
    fit.add_argument("--size", type=_count, default=0, help="anomaly: side of the square whose area images are seen at")
    fit.add_argument("--look", default="", metavar="MASK", help="anomaly: a picture, white where parts are looked at")
    fit.add_argument("--defects", type=Path, help="anomaly: folder of images with defects, for the figures alone")
    fit.add_argument("--masks", type=Path, help="anomaly: folder of masks, named as in --defects, defects white")
    _add_feedback(fit, "anomaly: pictures that people called fine on the page of this service, beside --data if given")
    fit.add_argument("--name", type=model_name, help="the model's name (default: the recipe's)")
    fit.add_argument("--runs", type=Path, help="where runs are kept (default: runs)")
    fit.add_argument("--restart", action="store_true", help="throw away what an earlier run of this name has done")
    _add_shared_options(fit)
    book = commands.add_parser(
        "textbook",
        help="The chapter on autoencoders, reproduced: every claim as a command, a picture and a number.",
        description="Writes textbook.md with its pictures. A stopped study goes on where it was.",
    )
    book.add_argument("--data", type=Path, help="folder with MNIST's four files (default: download)")
    book.add_argument("--quick", action="store_true", help="a small sample that comes along, in two minutes")
    book.add_argument("--runs", type=Path, help="where networks are kept (default: runs)")
    book.add_argument("--docs", type=Path, help="where the page goes (default: docs; quick: RUNS/textbook-quick)")
    _add_shared_options(book)
    for name, does in STAGES.items():
        command = commands.add_parser(name, help=does)
        is_calibrate = name == "calibrate"
        also = "; with --data or --feedback the name of a published model, e.g. my-part" if is_calibrate else ""
        command.add_argument("run", type=Path, help=f"the run's directory, e.g. runs/digits{also}")
        if is_calibrate:
            command.add_argument(
                "--data",
                type=Path,
                help="good images, or photographs for a model that is told the noise: calibrate anew on them",
            )
            command.add_argument("--defects", type=Path, help="images with defects, for figures and charts")
            command.add_argument("--masks", type=Path, help="masks of the defects, named as in --defects, white")
            _add_feedback(command, "calibrate anew on the pictures that people called fine on the page of this service")
        _add_shared_options(command)
    worker = commands.add_parser(
        "worker",
        help="Does the trainings that people ask for on the page of a service, one at a time.",
        description="Each makes a version that goes live once somebody has approved it on the page.",
    )
    worker.add_argument("--service", required=True, metavar="URL", help="the service, e.g. http://127.0.0.1:8000")
    worker.add_argument("--key", default="", help="of that service: one of its api_keys (default: $HGCLIENT_KEY)")
    worker.add_argument(
        "--data", type=Path, help="folder with good pictures, DATA/NAME for model NAME, beside feedback"
    )
    worker.add_argument("--runs", type=Path, help="where versions wait to be approved (default: runs)")
    worker.add_argument("--name", default="", help="of this worker, for the page (default: the machine's)")
    _add_shared_options(worker)
    for command in commands.choices.values():
        command.set_defaults(beside=[], restart=False, runs=Path("runs"))
    for command in (fit, commands.choices["evaluate"]):
        command.add_argument(
            "--beside", type=Path, action="append", metavar="RUN", help="another run as a baseline; repeatable"
        )
    return parser


def _add_feedback(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument("--feedback", metavar="URL", help=does)
    parser.add_argument("--key", default="", help="of that service: a key that may write (default: $HGCLIENT_KEY)")


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, default=Path("models"), help="where to publish (default: models)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--threads", type=_count, default=0, help="CPU threads (default: one per core)")
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
    """Return what the recipes that come with Hourglass make, by name."""
    files = sorted(resources.files("training").joinpath("recipes").iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8"))["summary"]
        for file in files
        if file.name.endswith(".toml")
    }


def model_name(text: str) -> str:
    """Return the text, if a model may have this name; ArgumentTypeError says why not."""
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
