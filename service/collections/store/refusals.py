"""Errors of the stores, with the same messages for every database."""

from collections.abc import Sequence

from service.collections.store import Bounds, Collection
from service.errors import CollectionFull, CollectionNotFound, ItemNotFound, ModelConflict, shown


def no_collection(name: str, names: Sequence[str]) -> CollectionNotFound:
    """Return the error for a missing collection; `names` are examples of existing ones."""
    return CollectionNotFound(
        f"no collection {shown(name)}; existing ones: {', '.join(names) or 'none'}. Storing an item creates one"
    )


def no_item(name: str, item_id: str) -> ItemNotFound:
    """Return the error for a missing item."""
    return ItemNotFound(f"collection {name!r} has no item {shown(item_id)}; GET /collections/{name}/items lists them")


def conflict(found: Collection, other: str) -> ModelConflict:
    """Return the error for vectors of a model version other than the collection's."""
    return ModelConflict(
        f"collection {found.name!r} has vectors of {found.encoder.label}, not of {other}"
        f"{' as it is now' if other == found.encoder.label else ''}; leave model and version out, or {rebuild(found)}"
    )


def encoder_gone(found: Collection, reason: str) -> ModelConflict:
    """Return the error for a collection whose encoder is gone."""
    return ModelConflict(
        f"collection {found.name!r} has vectors of {found.encoder.label}, which cannot be used: {reason}; restore that "
        f"version, send latents, or {rebuild(found)}"
    )


def rebuild(found: Collection) -> str:
    """Return the command that rebuilds the collection's vectors."""
    return f"rebuild it with `python -m service rebuild FOLDER --collection {found.name} --model {found.encoder.model}`"


def too_many_collections(name: str, bounds: Bounds) -> CollectionFull:
    """Return the error for more than `max_collections`."""
    return CollectionFull(
        f"there are {bounds.max_collections} collections, the limit (setting max_collections), so {name!r} "
        "cannot be created; delete one"
    )


def too_many_items(name: str, items: int, bounds: Bounds) -> CollectionFull:
    """Return the error for more than `max_items`."""
    return CollectionFull(
        f"collection {name!r} would have {items} items, the limit is {bounds.max_items} (setting max_items); "
        "delete some"
    )


def too_many_bytes(name: str, size: int, bounds: Bounds) -> CollectionFull:
    """Return the error for more than `max_collections_bytes`."""
    return CollectionFull(
        f"with this item of collection {name!r} all collections would take {size} bytes, the limit is "
        f"{bounds.max_bytes} (setting max_collections_bytes); delete some"
    )
