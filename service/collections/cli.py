"""`python -m service index` and `rebuild`: a folder of images into a collection, whether the service runs or not.

    python -m service index parts/ --collection parts --labels-from-folders
    python -m service rebuild parts/ --collection parts          after a new version of the model has gone live

Pictures are not kept in the database, so `rebuild` needs them again: an item's file is the one its id names. It writes
a second collection that replaces the first in one step; killed before that, it has changed nothing.
"""

import argparse
import asyncio
import contextlib
import csv
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from service.collections.command import add_setting_flags, registry_of, settings_of
from service.collections.embedding import encoder_of
from service.collections.indexing import Indexing, Source
from service.collections.names import is_collection_name
from service.collections.store import Collection, Store, building, open_store
from service.collections.store.rows import read_metadata
from service.errors import CollectionNotFound, HourglassError
from service.images.formats import EXTENSIONS
from service.models.aliases import Aliases
from service.settings import PREFIX, Settings

EXIT_DONE, EXIT_SOME_FAILED, EXIT_NOTHING = 0, 1, 2
_ROUNDS = 3
_ENDINGS = {f".{extension}" for extension in EXTENSIONS} | {".npy"}


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0, 1 if some files had problems, 2 if nothing was done."""
    options = _parser().parse_args(argv)
    try:
        return asyncio.run(_run(options, settings_of(options)))
    except (HourglassError, OSError, ValueError, csv.Error) as error:
        print(f"{options.command}: {error}", file=sys.stderr)  # noqa: T201  a command line
        return EXIT_NOTHING
    except KeyboardInterrupt:
        print(f"{options.command}: stopped; the same command goes on", file=sys.stderr)  # noqa: T201  as above
        return EXIT_NOTHING


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    if not is_collection_name(options.collection):
        raise ValueError(f"{options.collection!r} is not a valid collection name; use up to 63 of a-z, 0-9, _ and -")
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder} is not a folder")
    registry = registry_of(settings, old_versions=1)
    with contextlib.closing(open_store(settings.collections_url.get_secret_value())) as store:
        await registry.refresh()
        registry.aliases = Aliases.of(store.aliases.all())
        command: Callable[[Indexing, argparse.Namespace], Awaitable[int]] = options.run
        return await command(Indexing(settings, registry, store), options)


async def _index(indexing: Indexing, options: argparse.Namespace) -> int:
    name = options.collection
    try:
        found: Collection | None = indexing.store.collection(name)
    except CollectionNotFound:
        found = None
    model = await indexing.model_for(found, options.model)
    files = _find_images(options.folder)
    if not files:
        raise ValueError(f"no images in {options.folder}")
    sources = _sources(files, options)
    put, there, failed = await indexing.fill(
        name, model, sources, total=len(files), bounds=indexing.bounds, what=f"into {name}"
    )
    print(f"{name}: {put} new, {there} there already, {failed} with problems; vectors of {model.label}")  # noqa: T201
    return EXIT_SOME_FAILED if failed else EXIT_DONE


async def _rebuild(indexing: Indexing, options: argparse.Namespace) -> int:
    name, new, store = options.collection, building(options.collection), indexing.store
    bounds = replace(indexing.bounds, max_collections=indexing.bounds.max_collections + 1)  # one more, for a while
    for _ in range(_ROUNDS):
        found = store.collection(name)
        model = await indexing.registry.find("encode", options.model or found.encoder.model, None)
        if encoder_of(model) == found.encoder:
            print(f"{name}: has vectors of {model.label} already")  # noqa: T201
            return EXIT_DONE
        with contextlib.suppress(CollectionNotFound):
            store.drop(new)
        missing = 0 if options.missing == "drop" else sum(not s.file.is_file() for s in _kept(store, name, options))
        if missing:
            raise ValueError(
                f"{missing} of {found.items} items have no file in {options.folder}; nothing was changed. Find the "
                "files, or remove those items with --missing drop"
            )
        sources = _kept(store, name, options)
        put, _, failed = await indexing.fill(
            new, model, sources, total=found.items, bounds=bounds, what=f"rebuilding {name}"
        )
        if not put or (failed and options.missing != "drop"):
            with contextlib.suppress(CollectionNotFound):
                store.drop(new)
            raise ValueError(f"{failed} files have problems; nothing was changed. To remove them: --missing drop")
        if store.replace(name, new, changes=found.changes):
            print(f"{name}: {put} items have vectors of {model.label} now, {failed} are gone")  # noqa: T201
            return EXIT_SOME_FAILED if failed else EXIT_DONE
    store.drop(new)
    raise ValueError(
        f"{name} was changed in each of {_ROUNDS} attempts; nothing was done. Retry when no one writes to it"
    )


def _find_images(folder: Path) -> list[Path]:
    """Return the images in a folder and below it, in order of names: by their endings, and none that is hidden."""
    found = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in _ENDINGS)
    # A pipe or a device with such a name would never end.
    return [file for file in found if file.is_file() and not _is_hidden(file.relative_to(folder))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _sources(files: Sequence[Path], options: argparse.Namespace) -> Iterator[Source]:
    lines = _read_labels(options.labels) if options.labels else {}
    for file in files:
        item_id = file.relative_to(options.folder).as_posix()
        if options.labels_from_folders:
            yield Source(item_id, file, file.parent.name if file.parent != options.folder else None)
        else:
            label, metadata = lines.get(item_id, (None, None))
            yield Source(item_id, file, label, metadata)


def _kept(store: Store, name: str, options: argparse.Namespace) -> Iterator[Source]:
    """Yield what the collection has, with the file that each id names."""
    after = ""
    while page := store.entries(name, after=after, limit=1000):
        for entry in page:
            yield Source(entry.id, options.folder / entry.id, entry.label, read_metadata(entry.metadata))
        after = page[-1].id


def _read_labels(path: Path) -> Mapping[str, tuple[str | None, dict[str, JsonValue] | None]]:
    """Label and metadata by file, from a table with the columns file and label; other columns are metadata."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if not {"file", "label"} <= set(rows.fieldnames or []):
            raise ValueError(f"{path} has the columns {', '.join(rows.fieldnames or [])}; it needs file and label")
        found: dict[str, tuple[str | None, dict[str, JsonValue] | None]] = {}
        for row in rows:
            item_id, label = row.pop("file"), row.pop("label")
            metadata: dict[str, JsonValue] = {key: value for key, value in row.items() if key and value}
            found[item_id] = (label or None, metadata or None)
        return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Store a folder of images in a collection, or recompute the vectors of a collection.",
        epilog=f"Settings of the service count here, too, such as {PREFIX}COLLECTIONS_URL and {PREFIX}MAX_ITEMS. "
        "Ends with 1 if some files had problems, each of which is a line on standard error, and with 2 if nothing was "
        "done. The service may keep running: it finds every item as soon as it is written.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=parser.epilog
        )
        command.set_defaults(run=run)
        command.add_argument("folder", type=Path, help="folder of images, with its subfolders; ids are paths below it")
        command.add_argument(
            "--collection", required=True, metavar="NAME", help="name of the collection; created if missing"
        )
        command.add_argument(
            "--model", metavar="NAME", help="model of the vectors (default: the model of the collection)"
        )
        add_setting_flags(command)
        return command

    labels = add(
        "index", _index, "store images in a collection, except those already there"
    ).add_mutually_exclusive_group()
    labels.add_argument("--labels-from-folders", action="store_true", help="use the folder of a file as its label")
    labels.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="table with the columns file and label; other columns become metadata",
    )
    rebuild = add("rebuild", _rebuild, "recompute the vectors of a collection with the newest version of the model")
    rebuild.add_argument(
        "--missing",
        choices=["refuse", "drop"],
        default="refuse",
        help="what to do with items whose file is missing or broken (default refuse: change nothing)",
    )
    return parser
