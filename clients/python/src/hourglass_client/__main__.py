"""The command line: `hourglass denoise in.png out.png`. It talks to a running service and imports nothing of it."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hourglass_client import __version__
from hourglass_client.answers import NPY_TYPE, Picture
from hourglass_client.errors import ClientError
from hourglass_client.folders import find_images, targets
from hourglass_client.lookup import add_commands as add_lookup
from hourglass_client.sync import Hourglass
from hourglass_client.verdicts import EXIT_DONE, EXIT_SOME_FAILED, complain, judge

EXIT_NOTHING = 2
_NAMELESS = {"models", "decompress", "search", "classify"}  # a compressed file and a collection know their model

_EPILOG = """examples:
  hourglass denoise noisy.png clean.png
  hourglass denoise scans/ clean/                 every image of a folder, several at a time
  hourglass anomaly parts/ --csv verdicts.csv --heatmaps bad/ || echo stop the line
  hourglass mask part.png mask.png
  hourglass generate --count 25 --label 7 sevens.png
  hourglass interpolate a.png b.png way.gif       or a strip: way.png
  hourglass compress digits/ digits.hg; hourglass decompress digits.hg digits.zip
  hourglass put parts good/ --labels-from-folders; hourglass classify parts new.png
  hourglass encode digit.png > latent.json; hourglass decode latent.json digit.png

The service is at --url or $HGCLIENT_URL, by default http://127.0.0.1:8000; its key is in $HGCLIENT_KEY.
Ends with 1 if some files had problems, which stand on standard error, and with 2 if nothing could be done; `anomaly`
with 3 if it could judge every file and some are anomalous."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(argv)
    url = options.url or os.environ.get("HGCLIENT_URL") or "http://127.0.0.1:8000"
    try:
        with Hourglass(url, key=os.environ.get("HGCLIENT_KEY"), timeout_s=options.timeout_s) as hourglass:
            code: int = options.run(hourglass, options)
            return code
    except (ClientError, OSError, ValueError) as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return EXIT_NOTHING


def _pictures(ask: Callable[..., Picture], hourglass: Hourglass, options: argparse.Namespace) -> int:
    """Image files in, image files out: one into a file, or a folder or several into a folder."""
    *inputs, output = map(Path, options.paths)
    if not inputs:
        raise ValueError("name the image and where to write the answer")
    query = {name: getattr(options, name) for name in ("model", "version", "max_fpr") if hasattr(options, name)}
    if len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        ask(inputs[0], accept=_type_of(output), **query).save(output)
        return EXIT_DONE
    target_by_file = targets(inputs, output, f".{options.format}")

    def answer(file: Path) -> Picture:
        return ask(file, accept=_TYPE_BY_ENDING[f".{options.format}"], **query)

    failed = 0
    for file, result in hourglass.each(answer, list(target_by_file), at_once=options.at_once):
        if isinstance(result, Picture):
            target_by_file[file].parent.mkdir(parents=True, exist_ok=True)
            result.save(target_by_file[file])
        else:
            failed += complain(file, result)
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def _denoise(hourglass: Hourglass, options: argparse.Namespace) -> int:
    return _pictures(hourglass.denoise, hourglass, options)


def _enhance(hourglass: Hourglass, options: argparse.Namespace) -> int:
    return _pictures(hourglass.enhance, hourglass, options)


def _heatmap(hourglass: Hourglass, options: argparse.Namespace) -> int:
    return _pictures(hourglass.heatmap, hourglass, options)


def _mask(hourglass: Hourglass, options: argparse.Namespace) -> int:
    return _pictures(hourglass.mask, hourglass, options)


def _anomaly(hourglass: Hourglass, options: argparse.Namespace) -> int:
    query = {"model": options.model, "version": options.version, "max_fpr": options.max_fpr}
    return judge(hourglass, options.paths, query, at_once=options.at_once, table=options.csv, heatmaps=options.heatmaps)


def _encode(hourglass: Hourglass, options: argparse.Namespace) -> int:
    latent = hourglass.encode(options.image, model=options.model, version=options.version)
    name, _, version = latent.model.partition("/")
    # As /encode itself answers, so that /decode takes it.
    print(json.dumps({"model": name, "version": int(version), "latent": latent.values.tolist()}))
    return EXIT_DONE


def _decode(hourglass: Hourglass, options: argparse.Namespace) -> int:
    document = json.loads(options.latent.read_text())
    if not isinstance(document, dict) or "latent" not in document:
        raise ValueError(f"{options.latent} has no latent; write one with `hourglass encode`")
    model, version = options.model or document.get("model"), options.version or document.get("version")
    hourglass.decode(document["latent"], model=model, version=version).save(options.output)
    return EXIT_DONE


def _generate(hourglass: Hourglass, options: argparse.Namespace) -> int:
    accept = _type_of(options.output, more=_ARCHIVES)
    drawn = hourglass.generate(
        options.count,
        seed=options.seed,
        temperature=options.temperature,
        label=options.label,
        model=options.model,
        version=options.version,
        view="sheet" if options.count > 1 and accept in _TYPE_BY_ENDING.values() and accept != NPY_TYPE else None,
        accept=accept,
    )
    drawn.save(options.output)
    print(f"{options.output}: drawn by {drawn.model} with --seed {drawn.seed}", file=sys.stderr)
    return EXIT_DONE


def _interpolate(hourglass: Hourglass, options: argparse.Namespace) -> int:
    accept = _type_of(options.output, more=_ARCHIVES | _ANIMATIONS)
    hourglass.interpolate(
        options.first,
        options.last,
        steps=options.steps,
        path=options.path,
        model=options.model,
        version=options.version,
        accept=accept,
    ).save(options.output)
    return EXIT_DONE


def _compress(hourglass: Hourglass, options: argparse.Namespace) -> int:
    images: list[str | Path] = []
    images += find_images(options.images)
    if not images:
        raise ValueError(f"there are no images in {', '.join(options.images)}")
    file = hourglass.compress(images, rate=options.rate, model=options.model, version=options.version)
    file.save(options.output)
    size = len(file.content)
    print(f"{options.output}: {len(images)} files in {size} bytes, {size / len(images):.1f} each", file=sys.stderr)
    return EXIT_DONE


def _decompress(hourglass: Hourglass, options: argparse.Namespace) -> int:
    hourglass.decompress(options.file, accept=_type_of(options.output, more=_ARCHIVES)).save(options.output)
    return EXIT_DONE


def _models(hourglass: Hourglass, _: argparse.Namespace) -> int:
    for model in hourglass.models():
        print(f"{model.name}/{model.version}: {', '.join(model.tasks)}\n    {model.summary}")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hourglass",
        description="Ask a running Hourglass service.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hourglass-client {__version__}")
    parser.add_argument("--url", help="where the service is")
    parser.add_argument("--timeout-s", type=float, default=60.0, metavar="S", help="patience in seconds (default 60)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Hourglass, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name not in _NAMELESS:
            command.add_argument("--model", help="name of the model (default: the task's own)")
            command.add_argument("--version", type=int, help="version of the model (default: the newest)")
        return command

    def add_many(command: argparse.ArgumentParser, text: str) -> None:
        command.add_argument("paths", nargs="+", metavar="PATH", help=text)
        command.add_argument("--at-once", type=int, default=8, metavar="N", help="requests at a time (default 8)")

    def add_rate(command: argparse.ArgumentParser) -> None:
        text = "share of normal images that may be flagged (default: as the model was calibrated)"
        command.add_argument("--max-fpr", type=float, metavar="P", help=text)

    for command in (
        add("denoise", _denoise, "clean images"),
        add("enhance", _enhance, "enlarge images"),
        add("heatmap", _heatmap, "show where images are unusual"),
        add("mask", _mask, "draw where images are anomalous in white on black"),
    ):
        add_many(command, "images or folders, and last the file or folder to write")
        formats = [ending[1:] for ending in _TYPE_BY_ENDING]
        command.add_argument("--format", choices=formats, default="png", help="of files in a folder (default png)")
        if command.prog.endswith((" heatmap", " mask")):
            add_rate(command)
    anomaly = add("anomaly", _anomaly, "say how unusual images are, and end with 3 if some are anomalous")
    add_many(anomaly, "images or folders")
    add_rate(anomaly)
    text = "a table instead of sentences: into a file that ends in .csv, or without a name to standard output"
    anomaly.add_argument("--csv", nargs="?", const="-", metavar="FILE", help=text)
    anomaly.add_argument(
        "--heatmaps", type=Path, metavar="FOLDER", help="draw a heat map of every anomalous image there"
    )
    add("encode", _encode, "print an image's latent as JSON").add_argument("image", type=Path)
    decode = add("decode", _decode, "draw a latent that `encode` has printed")
    decode.add_argument("latent", type=Path)
    decode.add_argument("output", type=Path)
    generate = add("generate", _generate, "draw new images: several into one picture, a .zip or an .npy")
    generate.add_argument("output", type=Path)
    generate.add_argument("--count", type=int, default=1, metavar="N", help="images (default 1)")
    generate.add_argument("--seed", type=int, metavar="S", help="of an earlier answer, to draw the same again")
    generate.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 to 4: below 1 more ordinary")
    generate.add_argument("--label", metavar="L", help="what to draw, where the model knows labels")
    interpolate = add(
        "interpolate", _interpolate, "draw the way between two images: a strip, .gif, .webp, .zip or .npy"
    )
    interpolate.add_argument("first", type=Path)
    interpolate.add_argument("last", type=Path)
    interpolate.add_argument("output", type=Path)
    interpolate.add_argument("--steps", type=int, default=9, metavar="N", help="images with both ends (default 9)")
    interpolate.add_argument("--path", choices=["linear", "spherical"], default="linear", help="straight, or an arc")
    _add_codec(add)
    add_lookup(add)
    add("models", _models, "list the live models")
    return parser


def _add_codec(add: Callable[..., argparse.ArgumentParser]) -> None:
    compress = add("compress", _compress, "turn images, all together, into one small file")
    compress.add_argument("images", nargs="+", metavar="IMAGE", help="images or folders")
    compress.add_argument("output", type=Path, help="the file to write, digits.hg")
    compress.add_argument("--rate", type=int, metavar="R", help="0 for the smallest file (default: the model's)")
    decompress = add("decompress", _decompress, "draw the images of such a file: several into a .zip or an .npy")
    decompress.add_argument("file", type=Path)
    decompress.add_argument("output", type=Path)


def _type_of(output: Path, *, more: Mapping[str, str] = MappingProxyType({})) -> str:
    ending, type_by_ending = output.suffix.lower(), {**_TYPE_BY_ENDING, **more}
    if ending not in type_by_ending:
        raise ValueError(f"{output} has an ending that is none of {', '.join(type_by_ending)}")
    return type_by_ending[ending]


_TYPE_BY_ENDING = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".npy": NPY_TYPE,
}
_ARCHIVES = {".zip": "application/zip"}
_ANIMATIONS = {".gif": "image/gif"}


if __name__ == "__main__":
    sys.exit(main())
