"""`hourglass put`, `search` and `classify`: collections on the command line."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from hourglass_client.cli.run import EXIT_DONE, EXIT_SOME_FAILED, AddCommand, add_many, for_each
from hourglass_client.folders import find_images, some_images
from hourglass_client.sync import Hourglass

T = TypeVar("T")


def add_commands(add: AddCommand) -> None:
    """Add the commands `put`, `search` and `classify`."""
    put = add("put", _put, "store images in a collection, with their paths below the given folder as ids")
    put.add_argument("--label", metavar="L", help="label of all images (default: none)")
    put.add_argument("--labels-from-folders", action="store_true", help="use the folder of a file as its label")
    search = add("search", _search, "list the items of a collection nearest to an image: id, distance, label")
    search.add_argument("--k", type=int, default=10, metavar="K", help="number of items (default 10)")
    classify = add("classify", _classify, "classify images by the labels of the nearest items")
    classify.add_argument("--k", type=int, default=5, metavar="K", help="number of items that vote (default 5)")
    for command in (put, search, classify):
        command.add_argument("collection", help="name of the collection")
        add_many(command, "images or folders")


def _put(hourglass: Hourglass, options: argparse.Namespace) -> int:
    files = some_images(options.paths)
    id_by_file = {
        file: file.relative_to(path if path.is_dir() else path.parent).as_posix()
        for path in map(Path, options.paths)
        for file in find_images([path])
    }
    if len(set(id_by_file.values())) < len(id_by_file):
        raise ValueError("two of the images would have the same id; pass a common parent folder")

    def keep(file: Path) -> str:
        label = file.parent.name if options.labels_from_folders else options.label
        query = {"label": label, "model": options.model, "version": options.version}
        hourglass.put_item(options.collection, id_by_file[file], file, **query)
        return f"kept as {id_by_file[file]}" + (f", a {label}" if label else "")

    return _each(hourglass, files, options, keep, lambda file, said: print(f"{file}: {said}"))


def _search(hourglass: Hourglass, options: argparse.Namespace) -> int:
    files = some_images(options.paths)

    def say(file: Path, lines: list[str]) -> None:
        print("\n".join(lines if len(files) == 1 else [f"{file}\t{line}" for line in lines]))

    def ask(file: Path) -> list[str]:
        found = hourglass.search(options.collection, file, k=options.k)
        return [f"{near.id}\t{near.distance:.4g}\t{near.label or ''}".rstrip() for near in found]

    return _each(hourglass, files, options, ask, say)


def _classify(hourglass: Hourglass, options: argparse.Namespace) -> int:
    return _each(
        hourglass, some_images(options.paths), options, partial(hourglass.classify, options.collection, k=options.k),
        lambda file, found: print(f"{file}: {found.label}, {found.confidence:.0%} of the vote"),
    )  # fmt: skip


def _each(
    hourglass: Hourglass,
    files: list[Path],
    options: argparse.Namespace,
    ask: Callable[[Path], T],
    say: Callable[[Path, T], None],
) -> int:
    """Send every image, print the answers in order and return the exit code."""
    failed = for_each(hourglass, files, ask, say, at_once=options.at_once, what=options.command)
    return EXIT_SOME_FAILED if failed else EXIT_DONE
