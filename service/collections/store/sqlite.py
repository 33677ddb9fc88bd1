# ruff: noqa: S608  only constants and numbers of our own tables are formatted into SQL
"""Collections in one SQLite file, with exact search by sqlite-vec, for any number of processes.

apsw includes SQLite: the standard library's sqlite3 is often built without extensions. Every collection has its own
table of vectors, as their lengths differ; a search reads it in contiguous chunks. The file is not mapped into memory,
as replacing a mapped file, for example by a backup, crashes the processes that use it.
"""

import json
from collections.abc import Collection as Names
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from service.collections.store import UNLIMITED, Bounds, Collection, Encoder, Entry, Item, Neighbour, Vector
from service.collections.store.aliases import AliasTable
from service.collections.store.feedback import Feedback
from service.collections.store.refusals import (
    conflict,
    no_collection,
    no_item,
    too_many_bytes,
    too_many_collections,
    too_many_items,
)
from service.collections.store.rows import entries_sql, now, read_metadata, write_metadata
from service.collections.store.sqlite_file import SqliteFile, rows_of
from service.collections.store.sqlite_schema import prepare, size_of
from service.collections.store.trainings import Trainings
from service.errors import CollectionNotFound

_DROPPED = "~dropped-"  # no name of a client has a tilde
_DROPPED_AT_ONCE = 10_000
_SELECT = "SELECT number, name, model, version, sha256, dim, items, changes, created FROM collections"


class SqliteStore:
    """A `Store` in a file, created with its directory if missing.

    Each thread has its own connection, so that searches do not wait for one another.

    Args:
        path: Path of the file, on a local file system: SQLite's locks do not work on most network file systems.

    Raises:
        StoreUnavailable: The file cannot be opened, or has another schema.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, prepare, what="the collections")

    def collections(self, *, after: str = "", limit: int = UNLIMITED) -> list[Collection]:
        with self._file.transaction(is_writing=False) as db:
            named = "WHERE name NOT LIKE '%~%' AND name > ? ORDER BY name LIMIT ?"
            return [_collection(row) for row in rows_of(db, f"{_SELECT} {named}", after, limit)]

    def collection(self, name: str) -> Collection:
        with self._file.transaction(is_writing=False) as db:
            return _find(db, name)[1]

    def put(self, name: str, encoder: Encoder, items: Sequence[Item], bounds: Bounds) -> int:
        with self._file.transaction(is_writing=True) as db:
            try:
                number, found = _find(db, name)
            except CollectionNotFound:
                number, found = _create(db, name, encoder, bounds)
            if found.encoder != encoder:
                raise conflict(found, encoder.label)
            new = sum(_put(db, number, item) for item in items)
            if found.items + new > bounds.max_items:
                raise too_many_items(name, found.items + new, bounds)
            if new and (size := size_of(db)) > bounds.max_bytes:
                raise too_many_bytes(name, size, bounds)
            rows_of(
                db,
                "UPDATE collections SET items = items + ?, changes = changes + ? WHERE number = ?",
                new,
                len(items),
                number,
            )
            return new

    def get(self, name: str, item_id: str) -> tuple[Item, str]:
        with self._file.transaction(is_writing=False) as db:
            number, _ = _find(db, name)
            rows = rows_of(
                db,
                f"SELECT v.z, i.label, i.metadata, i.updated FROM items i JOIN {_vectors(number)} v "
                "ON v.rowid = i.number WHERE i.collection = ? AND i.id = ?",
                number,
                item_id,
            )
        if not rows:
            raise no_item(name, item_id)
        ((z, label, metadata, updated),) = rows
        return Item(item_id, np.frombuffer(z, np.float32), label, read_metadata(metadata)), updated

    def remove(self, name: str, item_id: str) -> None:
        with self._file.deleting() as db:
            number, _ = _find(db, name)
            rows = rows_of(db, "DELETE FROM items WHERE collection = ? AND id = ? RETURNING number", number, item_id)
            if not rows:
                raise no_item(name, item_id)
            rows_of(db, f"DELETE FROM {_vectors(number)} WHERE rowid = ?", rows[0][0])
            rows_of(db, "UPDATE collections SET items = items - 1, changes = changes + 1 WHERE number = ?", number)

    def entries(self, name: str, *, after: str, limit: int, max_bytes: int = UNLIMITED) -> list[Entry]:
        with self._file.transaction(is_writing=False) as db:
            number, _ = _find(db, name)
            rows = rows_of(db, entries_sql("items", "?"), number, after, limit, max_bytes)
            return [Entry(item_id, label, metadata, updated) for item_id, label, metadata, updated in rows]

    def known(self, name: str, ids: Names[str]) -> set[str]:
        with self._file.transaction(is_writing=False) as db:
            rows = rows_of(
                db,
                "SELECT i.id FROM items i JOIN collections c ON c.number = i.collection "
                "WHERE c.name = ? AND i.id IN (SELECT value FROM json_each(?))",
                name,
                json.dumps(list(ids)),
            )
            return {item_id for (item_id,) in rows}

    def drop(self, name: str) -> None:
        with self._file.deleting() as db:
            number, _ = _find(db, name)
            rows_of(db, "UPDATE collections SET name = ? WHERE number = ?", f"{name}{_DROPPED}{number}", number)
        while self._drop_some():  # also what an earlier process has left
            pass

    def _drop_some(self) -> bool:
        """Delete some items of a dropped collection, or the empty one; return whether there was any.

        One transaction for all of them would need as much free space as their rows take.
        """
        with self._file.deleting() as db:
            dropped = rows_of(db, "SELECT number FROM collections WHERE name GLOB ? LIMIT 1", f"*{_DROPPED}*")
            if not dropped:
                return False
            ((number,),) = dropped
            items = "SELECT number FROM items WHERE collection = ? LIMIT ?"
            if not rows_of(db, f"DELETE FROM items WHERE number IN ({items}) RETURNING 1", number, _DROPPED_AT_ONCE):
                _drop(db, number)
            return True

    def replace(self, name: str, new: str, *, changes: int) -> bool:
        with self._file.transaction(is_writing=True) as db:
            number, found = _find(db, name)
            if found.changes != changes:
                return False
            _drop(db, number)
            rows_of(db, "UPDATE collections SET name = ? WHERE number = ?", name, _find(db, new)[0])
            return True

    def search(self, name: str, vector: Vector, *, k: int, is_labelled: bool = False) -> list[Neighbour]:
        with self._file.transaction(is_writing=False) as db:
            number, _ = _find(db, name)
            only = "AND has_label = 1" if is_labelled else ""
            rows = rows_of(
                db,
                f"WITH near AS (SELECT rowid, distance FROM {_vectors(number)} WHERE z MATCH ? AND k = ? {only}) "
                "SELECT i.id, near.distance, i.label, i.metadata FROM near JOIN items i ON i.number = near.rowid "
                "ORDER BY near.distance, i.id",
                vector.tobytes(),
                k,
            )
            return [Neighbour(*row) for row in rows]

    @property
    def feedback(self) -> Feedback:
        return Feedback(self._file.run, table="feedback", blob="BLOB")

    @property
    def trainings(self) -> Trainings:
        return Trainings(self._file.run, table="trainings")

    @property
    def aliases(self) -> AliasTable:
        return AliasTable(self._file.run, table="aliases")

    def close(self) -> None:
        self._file.close()


def _vectors(number: int) -> str:
    """Return the name of a collection's table of vectors."""
    return f"vectors_{number:d}"


def _find(db: apsw.Connection, name: str) -> tuple[int, Collection]:
    rows = rows_of(db, f"{_SELECT} WHERE name = ?", name)
    if not rows:
        names = [
            found
            for (found,) in rows_of(db, "SELECT name FROM collections WHERE name NOT LIKE '%~%' ORDER BY name LIMIT 20")
        ]
        raise no_collection(name, names)
    return rows[0][0], _collection(rows[0])


def _create(db: apsw.Connection, name: str, encoder: Encoder, bounds: Bounds) -> tuple[int, Collection]:
    ((count,),) = rows_of(db, "SELECT count(*) FROM collections")
    if count >= bounds.max_collections:
        raise too_many_collections(name, bounds)
    created = now()
    ((number,),) = rows_of(
        db,
        "INSERT INTO collections (name, model, version, sha256, dim, created) VALUES (?, ?, ?, ?, ?, ?) "
        "RETURNING number",
        *(name, encoder.model, encoder.version, encoder.sha256, encoder.dim, created),
    )
    rows_of(db, f"CREATE VIRTUAL TABLE {_vectors(number)} USING vec0(z float[{encoder.dim:d}], has_label boolean)")
    return number, Collection(name, encoder, 0, 0, created)


def _put(db: apsw.Connection, collection: int, item: Item) -> bool:
    """Store an item and return whether it is new."""
    values = (item.label, write_metadata(item.metadata), now(), collection, item.id)
    vector = (item.vector.tobytes(), item.label is not None)
    table = _vectors(collection)
    known = rows_of(
        db,
        "UPDATE items SET label = ?, metadata = ?, updated = ? WHERE collection = ? AND id = ? RETURNING number",
        *values,
    )
    if known:
        rows_of(db, f"UPDATE {table} SET z = ?, has_label = ? WHERE rowid = ?", *vector, known[0][0])
        return False
    ((number,),) = rows_of(
        db,
        "INSERT INTO items (label, metadata, updated, collection, id) VALUES (?, ?, ?, ?, ?) RETURNING number",
        *values,
    )
    rows_of(db, f"INSERT INTO {table} (z, has_label, rowid) VALUES (?, ?, ?)", *vector, number)
    return True


def _drop(db: apsw.Connection, number: int) -> None:
    rows_of(db, f"DROP TABLE {_vectors(number)}")
    rows_of(db, "DELETE FROM collections WHERE number = ?", number)


def _collection(row: tuple[Any, ...]) -> Collection:
    _, name, model, version, sha256, dim, items, changes, created = row
    return Collection(name, Encoder(model, version, sha256, dim), items, changes, created)
