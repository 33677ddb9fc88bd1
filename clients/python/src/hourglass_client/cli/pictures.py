"""`hourglass denoise`, `enhance`, `heatmap` and `mask`: images in, images out."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hourglass_client.answers import Picture
from hourglass_client.cli.journal import unfinished
from hourglass_client.cli.run import (
    EXIT_DONE,
    EXIT_SOME_FAILED,
    TYPE_BY_ENDING,
    AddCommand,
    add_many,
    add_rate,
    for_each,
    say,
    type_of,
)
from hourglass_client.folders import targets
from hourglass_client.sync import Hourglass

_RESTORING = ("thorough", "quality", "metadata", "data_range")
_OPTIONS_BY_COMMAND = {
    "denoise": ("sigma", "strength", *_RESTORING),
    "enhance": _RESTORING,
    "heatmap": ("max_fpr",),
    "mask": ("max_fpr",),
}


def add_commands(add: AddCommand) -> None:
    """Add the commands `denoise`, `enhance`, `heatmap` and `mask`."""
    denoise = add("denoise", partial(_pictures, "denoise"), "denoise images")
    enhance = add("enhance", partial(_pictures, "enhance"), "enlarge images")
    heatmap = add("heatmap", partial(_pictures, "heatmap"), "show where images are unusual")
    mask = add("mask", partial(_pictures, "mask"), "write a mask that is white where images are anomalous")
    for command in (denoise, enhance, heatmap, mask):
        add_many(command, "images or folders, and last the file or folder to write")
        formats = [ending[1:] for ending in TYPE_BY_ENDING]
        command.add_argument(
            "--format", choices=formats, default="png", help="format of the files in a folder (default png)"
        )
        command.add_argument("--again", action="store_true", help="redo files that are done already")
    denoise.add_argument(
        "--sigma", type=float, metavar="S", help="noise level, 0-255 units (default: estimated by the service)"
    )
    denoise.add_argument(
        "--strength", type=float, metavar="S", help="1 returns the clean image, 0 the input (default 1)"
    )
    for command in (denoise, enhance):
        text = "average over eight orientations: slightly better, eight times slower"
        command.add_argument("--thorough", action="store_const", const="true", help=text)
        command.add_argument("--quality", type=int, metavar="Q", help="JPEG or WebP quality, 1 to 100 (default 95)")
        command.add_argument("--metadata", choices=["drop", "keep"], help="drop or keep EXIF data (default drop)")
        text = "value of white in an .npy file or a TIFF of floats, or auto for the range of its values"
        command.add_argument("--data-range", metavar="R", help=f"{text} (default: floats in [0, 1])")
    for command in (heatmap, mask):
        add_rate(command)


def _pictures(name: str, hourglass: Hourglass, options: argparse.Namespace) -> int:
    """Write the answer for one image to a file, or for several to a folder; skip those that are there."""
    *inputs, output = map(Path, options.paths)
    if not inputs:
        raise ValueError("give the image and the output file")
    query = {key: getattr(options, key) for key in ("model", "version", *_OPTIONS_BY_COMMAND[name])}
    ask: Callable[..., Picture] = partial(getattr(hourglass, name), **query)
    if len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        ask(inputs[0], accept=type_of(output)).save(output)
        return EXIT_DONE

    target_by_file = targets(inputs, output, f".{options.format}")
    todo = target_by_file if options.again else unfinished(target_by_file, output, {"command": name, **query})
    if there := len(target_by_file) - len(todo):
        say(f"{there} of {len(target_by_file)} are in {output} already; --again redoes them")

    def save(file: Path, picture: Picture) -> None:
        todo[file].parent.mkdir(parents=True, exist_ok=True)
        picture.save(todo[file])

    answer = partial(ask, accept=TYPE_BY_ENDING[f".{options.format}"])
    failed = for_each(hourglass, list(todo), answer, save, at_once=options.at_once, what=name)
    return EXIT_SOME_FAILED if failed else EXIT_DONE
