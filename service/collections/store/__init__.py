"""Where collections are kept: one small interface, `Store`, and the databases behind it.

    open_store("sqlite:///collections/items.db")     one file, for any number of processes on one machine
    open_store("postgresql://host/name")             for many machines; needs the extension pgvector

The queue of jobs lies in the same PostgreSQL database, or in an SQLite file of its own beside the collections, so that
large results hold up nobody who searches.

A database is imported when it is opened: a service with SQLite whose collections and jobs nobody asks for loads none.
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

MAX_DIM = 8192  # of sqlite-vec
MAX_NEIGHBOURS = 1000  # sqlite-vec answers with 4096 at most


@dataclass(frozen=True)
class Encoder:
    """The encoder of a collection. Vectors of different encoders cannot be compared.

    Attributes:
        model, version: Of the model.
        sha256: Of its encode graph: a version that was replaced in place is another.
        dim: Numbers in a vector.
    """

    model: str
    version: int
    sha256: str
    dim: int

    @property
    def label(self) -> str:
        """`<model>/<version>`, as in the header X-Model."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Collection:
    """A collection with its encoder and number of items.

    Attributes:
        items: How many it has.
        changes: Grows with every item that is put or removed.
        created: UTC, ISO 8601.
    """

    name: str
    encoder: Encoder
    items: int
    changes: int
    created: str


@dataclass(frozen=True)
class Item:
    """One image of a collection: its vector, (D,), label and metadata."""

    id: str
    vector: Vector
    label: str | None = None
    metadata: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Entry:
    """An item without its vector. `updated` is UTC, ISO 8601."""

    id: str
    label: str | None
    metadata: dict[str, JsonValue] | None
    updated: str


@dataclass(frozen=True)
class Neighbour:
    """An item near a vector. `distance` is Euclidean."""

    id: str
    distance: float
    label: str | None
    metadata: dict[str, JsonValue] | None


@dataclass(frozen=True)
class Bounds:
    """Limits from the settings: collections, items per collection, bytes of all collections."""

    max_collections: int
    max_items: int
    max_bytes: int = 2**63 - 1


class Store(Protocol):
    """A database of collections. Every method is one transaction, blocks, and may be called from any thread.

    Once `put` has returned, every process sees the item, also after a crash. All methods raise `StoreUnavailable`
    where the database does not answer, and `CollectionNotFound` for a name that is none unless they say otherwise.
    """

    def collections(self) -> list[Collection]:
        """Return all collections by name, except those under construction."""

    def collection(self, name: str) -> Collection:
        """Return a collection."""

    def put(self, name: str, encoder: Encoder, items: Sequence[Item], bounds: Bounds) -> int:
        """Add or replace items; create the collection if it is missing.

        Returns:
            How many are new.

        Raises:
            ModelConflict: The collection has vectors of another encoder.
            CollectionFull: There would be more items or collections than the bounds allow. Nothing was put.
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

    def entries(self, name: str, *, after: str, limit: int) -> list[Entry]:
        """Return items whose ids come after `after` in the order of their UTF-8 bytes."""

    def known(self, name: str, ids: Names[str]) -> set[str]:
        """Return those of the ids that the collection has; empty if the collection is missing."""

    def drop(self, name: str) -> None:
        """Remove a collection with all its items."""

    def replace(self, name: str, new: str, *, changes: int) -> bool:
        """Replace the collection `name` by the collection `new`.

        Returns:
            False, and nothing was done, if `name` has changed since it had that many `changes`.
        """

    def search(self, name: str, vector: Vector, *, k: int, is_labelled: bool = False) -> list[Neighbour]:
        """Return the `k` nearest items by exact search, nearest first; with `is_labelled`, only items with a label."""

    @property
    def feedback(self) -> Feedback:
        """The pictures of the feedback."""

    @property
    def trainings(self) -> Trainings:
        """The trainings and their results."""

    @property
    def aliases(self) -> AliasTable:
        """The aliases of model versions."""

    def close(self) -> None:
        """End all connections."""


def building(name: str) -> str:
    """Return the name of the collection under construction that will replace this one. Clients cannot use it."""
    return f"{name}~new"


def open_store(url: str) -> Store:
    """Open the database of a `collections_url`.

    Raises:
        StoreUnavailable: Its package is not installed, or it cannot be opened.
    """
    if (path := collections_file_of(url)) is not None:
        from service.collections.store.sqlite import SqliteStore  # noqa: PLC0415

        return SqliteStore(path)
    from service.collections.store.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url)


def open_jobs(url: str) -> JobQueue:
    """Open the job queue of a `collections_url`.

    Raises:
        StoreUnavailable: Its package is not installed, or it cannot be opened.
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
    """Return the file of the collections; None if a server has them."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
