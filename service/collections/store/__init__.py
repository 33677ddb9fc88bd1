"""Storage of collections: the interface `Store`, and the databases that implement it.

    open_store("sqlite:///collections/items.db")     one file, for any number of processes on one machine
    open_store("postgresql://host/name")             for many machines; needs the extension pgvector

The job queue is in the same PostgreSQL database. With SQLite it has a separate file, so that large results do not delay
searches.

A driver is imported when its database is opened, so a service that uses neither collections nor jobs loads none.
"""

from collections.abc import Collection as Names
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service.collections.store.aliases import AliasTable
from service.collections.store.feedback import Feedback
from service.collections.store.jobs import JobQueue
from service.collections.store.trainings import Trainings

Vector = NDArray[np.float32]

MAX_DIM = 8192  # limit of sqlite-vec
UNLIMITED = 2**63 - 1  # the largest number of both databases
MAX_NEIGHBOURS = 1000  # the limit of sqlite-vec is 4096


@dataclass(frozen=True)
class Encoder:
    """The encoder of a collection. Vectors of different encoders cannot be compared.

    Attributes:
        model, version: Name and version of the model.
        sha256: Digest of its encode graph, to detect a version that was replaced in place.
        dim: Length of a vector.
    """

    model: str
    version: int
    sha256: str
    dim: int

    @property
    def label(self) -> str:
        """Model label, `<model>/<version>`, as in the header X-Model."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Collection:
    """A collection, without its items.

    Attributes:
        name: Name of the collection.
        encoder: Encoder of its vectors.
        items: Number of items.
        changes: Number of items put or removed so far.
        created: Time of creation, UTC, ISO 8601.
    """

    name: str
    encoder: Encoder
    items: int
    changes: int
    created: str


@dataclass(frozen=True)
class Item:
    """An item of a collection: vector (D,), label and metadata."""

    id: str
    vector: Vector
    label: str | None = None
    metadata: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Entry:
    """An item without its vector.

    Attributes:
        id, label: As in `Item`.
        metadata: JSON, as it is stored: as objects, a page of it may take ten times the memory.
        updated: Time of the last change, UTC, ISO 8601.
    """

    id: str
    label: str | None
    metadata: str | None
    updated: str


@dataclass(frozen=True)
class Neighbour:
    """An item near a query vector, with their Euclidean distance; `metadata` is JSON, as in `Entry`."""

    id: str
    distance: float
    label: str | None
    metadata: str | None


@dataclass(frozen=True)
class Bounds:
    """Limits from the settings: number of collections, items per collection, bytes of all collections."""

    max_collections: int
    max_items: int
    max_bytes: int = UNLIMITED


class Store(Protocol):
    """A database of collections. Every method is one transaction, blocks, and may be called from any thread.

    Once `put` has returned, every process sees the items, also after a crash. All methods raise `StoreUnavailable` if
    the database does not answer. Unless stated otherwise, they raise `CollectionNotFound` for a missing collection.
    """

    def collections(self, *, after: str = "", limit: int = UNLIMITED) -> list[Collection]:
        """Return up to `limit` collections with names behind `after`, by name, except those under construction."""

    def collection(self, name: str) -> Collection:
        """Return a collection."""

    def put(self, name: str, encoder: Encoder, items: Sequence[Item], bounds: Bounds) -> int:
        """Add or replace items; create the collection if it is missing.

        Returns:
            The number of new items.

        Raises:
            ModelConflict: The collection has vectors of another encoder.
            CollectionFull: The items exceed `bounds`. Nothing was stored.
        """

    def get(self, name: str, item_id: str) -> tuple[Item, str]:
        """Return an item and the time of its last change.

        Raises:
            ItemNotFound: The item is missing.
        """

    def remove(self, name: str, item_id: str) -> None:
        """Remove an item.

        Raises:
            ItemNotFound: The item is missing.
        """

    def entries(self, name: str, *, after: str, limit: int, max_bytes: int = UNLIMITED) -> list[Entry]:
        """Return up to `limit` items whose ids follow `after`, ordered by the UTF-8 bytes of the ids.

        The last one is the first whose metadata, with that of the items before it, takes more than `max_bytes`.
        """

    def known(self, name: str, ids: Names[str]) -> set[str]:
        """Return the ids that exist in the collection; an empty set if the collection is missing."""

    def drop(self, name: str) -> None:
        """Remove a collection with all its items."""

    def replace(self, name: str, new: str, *, changes: int) -> bool:
        """Rename the collection `new` to `name`, replacing the old one.

        Returns:
            False if `Collection.changes` of `name` is no longer `changes`. Nothing is replaced then.
        """

    def search(self, name: str, vector: Vector, *, k: int, is_labelled: bool = False) -> list[Neighbour]:
        """Return the `k` nearest items by exact search, nearest first; with `is_labelled`, only items with a label."""

    @property
    def feedback(self) -> Feedback:
        """The images of the feedback."""

    @property
    def trainings(self) -> Trainings:
        """The trainings and their results."""

    @property
    def aliases(self) -> AliasTable:
        """The aliases of model versions."""

    def close(self) -> None:
        """Close all connections."""


def building(name: str) -> str:
    """Return the name of the collection that is built to replace this one. Clients cannot use such names."""
    return f"{name}~new"


def open_store(url: str) -> Store:
    """Open the database of a `collections_url`.

    Raises:
        StoreUnavailable: The driver is not installed, or the database cannot be opened.
    """
    if (path := collections_file_of(url)) is not None:
        from service.collections.store.sqlite import SqliteStore  # noqa: PLC0415

        return SqliteStore(path)
    from service.collections.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url)


def open_jobs(url: str) -> JobQueue:
    """Open the job queue of a `collections_url`.

    Raises:
        StoreUnavailable: The driver is not installed, or the database cannot be opened.
    """
    if (path := jobs_file_of(url)) is not None:
        from service.collections.store.sqlite_jobs import open_queue  # noqa: PLC0415

        return open_queue(path)
    from service.collections.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url).jobs()


def jobs_file_of(url: str) -> Path | None:
    """Return the path of the job queue, `items-jobs.db` beside `items.db`; None for a database server."""
    path = collections_file_of(url)
    return None if path is None else path.with_name(f"{path.stem}-jobs{path.suffix}")


def collections_file_of(url: str) -> Path | None:
    """Return the file of the collections; None for a database server."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
