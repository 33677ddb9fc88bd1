"""What every database says no with, in the same words."""

from collections.abc import Sequence

from service.collections.store import Bounds, Collection
from service.errors import CollectionFull, CollectionNotFound, ItemNotFound, ModelConflict, shown


def no_collection(name: str, names: Sequence[str]) -> CollectionNotFound:
    """There is none of that name; `names` are some that there are."""
    return CollectionNotFound(
        f"no collection {shown(name)}; existing ones: {', '.join(names) or 'none'}. Storing an item creates one"
    )


def no_item(name: str, item_id: str) -> ItemNotFound:
    """Return the refusal of an item that the collection does not have."""
    return ItemNotFound(f"collection {name!r} has no item {shown(item_id)}; GET /collections/{name}/items lists them")


def conflict(found: Collection, other: str) -> ModelConflict:
    """Return the refusal of a model version that did not make the collection's vectors."""
    return ModelConflict(
        f"collection {found.name!r} has vectors of {found.encoder.label}, not of {other}"
        f"{' as it is now' if other == found.encoder.label else ''}; leave model and version out, or {rebuild(found)}"
    )


def encoder_gone(found: Collection, reason: str) -> ModelConflict:
    """Nobody can make vectors for the collection any more."""
    return ModelConflict(
        f"collection {found.name!r} has vectors of {found.encoder.label}, which cannot be used: {reason}; put that "
        f"version back, send latents, or {rebuild(found)}"
    )


def rebuild(found: Collection) -> str:
    """Return the command that rebuilds the collection's vectors."""
    return f"rebuild it with `python -m service rebuild FOLDER --collection {found.name} --model {found.encoder.model}`"


def too_many_collections(name: str, bounds: Bounds) -> CollectionFull:
    """There is no room for one more."""
    return CollectionFull(
        f"there are {bounds.max_collections} collections, the limit (setting max_collections), so {name!r} "
        "cannot be created; delete one"
    )


def too_many_items(name: str, items: int, bounds: Bounds) -> CollectionFull:
    """There is no room for one more in this one."""
    return CollectionFull(
        f"collection {name!r} would have {items} items, the limit is {bounds.max_items} (setting max_items); "
        "delete some"
    )


def too_many_bytes(name: str, size: int, bounds: Bounds) -> CollectionFull:
    """Return all collections together would take more room than they may."""
    return CollectionFull(
        f"with this item of collection {name!r} all collections would take {size} bytes, the limit is "
        f"{bounds.max_bytes} (setting max_collections_bytes); delete some"
    )
