"""`python -m service prune`: removes versions of models that nothing needs any more.

    python -m service prune --keep 3 --dry-run      say what would go, and how much room that makes
    python -m service prune --keep 3                remove it

The newest versions of each model stay, and every version that something names: an alias, a collection, a training that
is not over, the training of another version that stays. So do versions that decompress files, as nobody knows where
such files are. A version is renamed to a hidden name before it is removed: a reader sees all of it or none.
"""

import argparse
import asyncio
import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.collections.command import add_setting_flags, registry_of, settings_of
from service.collections.store import Store, collections_file_of, open_store
from service.collections.store.trainings import AT_WORK
from service.contract.manifest import Manifest
from service.contract.version import manifest_of
from service.errors import HourglassError
from service.models.snapshot import Snapshot
from service.settings import PREFIX, Settings

EXIT_DONE, EXIT_NOTHING = 0, 2
KEEP = 3
_HIDDEN = ".pruned-"
_NOT_OVER = (*AT_WORK, "ready")

Version = tuple[str, int]


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0, or 2 if nothing was done."""
    options = _parser().parse_args(argv)
    try:
        return asyncio.run(_run(options, settings_of(options)))
    except (HourglassError, OSError) as error:
        print(f"prune: {error}", file=sys.stderr)  # noqa: T201  a command line
        return EXIT_NOTHING


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    snapshot = await _live(settings)
    with _opened(settings) as store:
        needs = needed(snapshot, settings.models_dir, store, keep=options.keep)
    old = [key for key in _versions(snapshot) if key not in needs]
    for key, reason in sorted(needs.items()):
        if reason:
            print(f"{_label(key)} stays: {reason}")  # noqa: T201  as above
    freed = 0
    if not options.dry_run:
        _sweep(settings.models_dir)
    for name, version in old:
        directory = settings.models_dir / name / str(version)
        size = _bytes_of(directory)
        if not options.dry_run:
            remove(directory)
        print(f"{name}/{version} {'would go' if options.dry_run else 'is gone'}: {size} bytes")  # noqa: T201
        freed += size
    done = "would be removed" if options.dry_run else "removed"
    print(f"{len(old)} of {len(old) + len(needs)} versions {done}, {freed} bytes")  # noqa: T201
    return EXIT_DONE


def needed(snapshot: Snapshot, models_dir: Path, store: Store | None, *, keep: int) -> Mapping[Version, str]:
    """Return the versions that stay, with the reason for each; the newest ones have an empty reason.

    Args:
        snapshot: Live versions, and every version on disk.
        models_dir: Directory of models.
        store: Database with aliases, collections and trainings; None if there is none yet.
        keep: Number of newest versions of each model that stay. Versions newer than the live one stay, too.

    Raises:
        StoreUnavailable: The database does not answer.
    """
    needs: dict[Version, str] = {}
    for name, versions in snapshot.versions_by_name.items():
        live = snapshot.model_by_name.get(name)
        if live is None:  # none passes its checks: which one will, nobody can say
            needs |= {(name, version): "no version of the model answers" for version in versions}
            continue
        newest = {*versions[-keep:], *(v for v in versions if v >= live.manifest.version)}
        needs |= {(name, version): "" for version in newest}
    manifests = {key: _manifest(models_dir / key[0] / str(key[1])) for key in _versions(snapshot)}
    named = [] if store is None else list(_named_by(store, snapshot))
    named += [(key, "files of /compress may need it") for key, made in manifests.items() if _decompresses(made)]
    waiting = [*named, *((key, "") for key in needs)]
    while waiting:
        key, reason = waiting.pop()
        if key in manifests:
            needs.setdefault(key, reason)
            made = manifests.pop(key)  # looked at once
            start = None if made is None else made.provenance.start
            if start is not None:
                waiting.append(((start.name, start.version), f"{_label(key)} was trained from it"))
    return needs


def remove(directory: Path) -> None:
    """Remove a version: atomically for readers of the models directory, then from the disk."""
    hidden = directory.with_name(f"{_HIDDEN}{directory.name}")
    directory.rename(hidden)
    shutil.rmtree(hidden)


def _named_by(store: Store, snapshot: Snapshot) -> Iterator[tuple[Version, str]]:
    for alias in store.aliases.all():
        for version in alias.versions:
            yield (alias.model, version), f"the alias {alias.name} names it"
    for collection in store.collections():
        encoder = collection.encoder
        yield (encoder.model, encoder.version), f"the collection {collection.name} has its vectors"
    for name in snapshot.versions_by_name:
        for training in store.trainings.of_model(name):
            if training.state in _NOT_OVER and training.old_version is not None:
                yield (name, training.old_version), f"the training {training.id} began with it"


def _versions(snapshot: Snapshot) -> list[Version]:
    return [(name, version) for name, versions in sorted(snapshot.versions_by_name.items()) for version in versions]


def _manifest(directory: Path) -> Manifest | None:
    try:
        return manifest_of(directory)
    except (OSError, ValueError):  # not live, and nothing that is needs it
        return None


def _decompresses(manifest: Manifest | None) -> bool:
    return manifest is not None and "decompress" in manifest.tasks


def _bytes_of(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*"))


def _sweep(models_dir: Path) -> None:
    """Remove unfinished removals of a killed command."""
    for left in models_dir.glob(f"*/{_HIDDEN}*"):
        shutil.rmtree(left)


def _label(key: Version) -> str:
    return f"{key[0]}/{key[1]}"


async def _live(settings: Settings) -> Snapshot:
    """Return the versions that a service would serve: the newest one may fail its checks."""
    registry = registry_of(settings, old_versions=0)
    try:
        await registry.refresh()
        return registry.snapshot
    finally:
        registry.close()


def _opened(settings: Settings) -> contextlib.AbstractContextManager[Store | None]:
    url = settings.collections_url.get_secret_value()
    file = collections_file_of(url)
    if file is not None and not file.exists():
        return contextlib.nullcontext()
    return contextlib.closing(open_store(url))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service prune",
        description="Remove versions of models that nothing needs any more.",
        epilog=f"Give it the settings of the service, such as {PREFIX}COLLECTIONS_URL: aliases and collections are "
        "there. Never removed: the newest version that works and what is newer, versions that an alias, a collection "
        "or an unfinished training names, versions that others that stay were trained from, and versions that "
        "decompress files. The service may run meanwhile.",
    )
    parser.add_argument(
        "--keep", type=_at_least_one, default=KEEP, metavar="N", help=f"newest versions of each model (default {KEEP})"
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, and say what would go")
    add_setting_flags(parser)
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
