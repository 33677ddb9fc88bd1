# ruff: noqa: S608  only constants are formatted into SQL
"""Collections in PostgreSQL, with exact search by pgvector: for services on several machines."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Collection as Names
from typing import Any, TypeVar

import numpy as np
import psycopg

from service.collections.store import UNLIMITED, Bounds, Collection, Encoder, Entry, Item, Neighbour, Vector
from service.collections.store.aliases import AliasTable
from service.collections.store.feedback import Feedback
from service.collections.store.job_table import Dialect
from service.collections.store.jobs import JobQueue
from service.collections.store.refusals import (
    conflict,
    no_collection,
    no_item,
    too_many_bytes,
    too_many_collections,
    too_many_items,
)
from service.collections.store.rows import entries_sql, now, read_metadata, write_metadata
from service.collections.store.trainings import Trainings
from service.collections.store.transaction import Ask, Purpose, Transaction
from service.errors import CollectionNotFound, StoreUnavailable, reason_of

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

# One table holds the vectors of all collections, of any length. Ids sort by their bytes, as in SQLite.
_SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS hourglass_collections (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    model text NOT NULL, version integer NOT NULL, sha256 text NOT NULL, dim integer NOT NULL,
    items bigint NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0,
    created text NOT NULL
);
CREATE TABLE IF NOT EXISTS hourglass_items (
    collection integer NOT NULL REFERENCES hourglass_collections ON DELETE CASCADE,
    id text COLLATE "C" NOT NULL,
    label text,
    metadata text,
    updated text NOT NULL,
    z vector NOT NULL,
    PRIMARY KEY (collection, id)
);
"""
_JOBS = Dialect(
    table="hourglass_jobs",
    blob="bytea",
    identity="bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    now="extract(epoch FROM clock_timestamp())::float8",
    skip_locked="FOR UPDATE SKIP LOCKED",
)
_FEEDBACK_LOCK = 7103442  # serialises transactions of the feedback
_JOBS_LOCK = 7103443  # serialises transactions that depend on the bytes of all jobs
_LOCK = 7103441  # serialises the creation of tables and collections; an arbitrary number
_SELECT = "SELECT number, name, model, version, sha256, dim, items, changes, created FROM hourglass_collections"
_CONNECT_S = 5
_OPTIONS = "-c statement_timeout=30000 -c lock_timeout=5000"  # milliseconds


class PostgresStore:
    """A `Store` in a PostgreSQL database; its tables begin with `hourglass_`.

    Each thread has its own connection. A broken connection is opened again once within a call, as the server may have
    been restarted, and otherwise by the next call.

    Args:
        url: URL of the database, `postgresql://USER:PASSWORD@HOST:PORT/NAME`.

    Raises:
        StoreUnavailable: The server does not answer, or lacks pgvector.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._mine = threading.local()
        self._all: dict[int, Connection] = {}
        self._lock = threading.Lock()
        self._run(_create_tables)

    def collections(self, *, after: str = "", limit: int = UNLIMITED) -> list[Collection]:
        named = "WHERE position('~' in name) = 0 AND name > %s ORDER BY name LIMIT %s"
        return self._run(lambda db: [_collection(row) for row in _rows(db, f"{_SELECT} {named}", after, limit)])

    def collection(self, name: str) -> Collection:
        return self._run(lambda db: _find(db, name)[1])

    def put(self, name: str, encoder: Encoder, items: Sequence[Item], bounds: Bounds) -> int:
        def put(db: Connection) -> int:
            try:
                number, found = _find(db, name, is_writing=True)
            except CollectionNotFound:
                number, found = _create(db, name, encoder, bounds)
            if found.encoder != encoder:
                raise conflict(found, encoder.label)
            new = _put(db, number, items)
            if found.items + new > bounds.max_items:
                raise too_many_items(name, found.items + new, bounds)
            ((size,),) = _rows(db, "SELECT pg_total_relation_size('hourglass_items')")
            if new and size > bounds.max_bytes:
                raise too_many_bytes(name, size, bounds)
            db.execute(
                "UPDATE hourglass_collections SET items = items + %s, changes = changes + %s WHERE number = %s",
                (new, len(items), number),
            )
            return new

        return self._run(put)

    def get(self, name: str, item_id: str) -> tuple[Item, str]:
        def get(db: Connection) -> tuple[Item, str]:
            number, _ = _find(db, name)
            rows = _rows(
                db,
                "SELECT z::real[], label, metadata, updated FROM hourglass_items WHERE collection = %s AND id = %s",
                number,
                item_id,
            )
            if not rows:
                raise no_item(name, item_id)
            ((z, label, metadata, updated),) = rows
            return Item(item_id, np.array(z, np.float32), label, read_metadata(metadata)), updated

        return self._run(get)

    def remove(self, name: str, item_id: str) -> None:
        def remove(db: Connection) -> None:
            number, _ = _find(db, name, is_writing=True)
            if not _rows(
                db, "DELETE FROM hourglass_items WHERE collection = %s AND id = %s RETURNING 1", number, item_id
            ):
                raise no_item(name, item_id)
            db.execute(
                "UPDATE hourglass_collections SET items = items - 1, changes = changes + 1 WHERE number = %s", (number,)
            )

        self._run(remove)

    def entries(self, name: str, *, after: str, limit: int, max_bytes: int = UNLIMITED) -> list[Entry]:
        def entries(db: Connection) -> list[Entry]:
            number, _ = _find(db, name)
            rows = _rows(db, entries_sql("hourglass_items", "%s"), number, after, limit, max_bytes)
            return [Entry(item_id, label, metadata, updated) for item_id, label, metadata, updated in rows]

        return self._run(entries)

    def known(self, name: str, ids: Names[str]) -> set[str]:
        def known(db: Connection) -> set[str]:
            rows = _rows(
                db,
                "SELECT i.id FROM hourglass_items i JOIN hourglass_collections c ON c.number = i.collection "
                "WHERE c.name = %s AND i.id = ANY(%s)",
                name,
                list(ids),
            )
            return {item_id for (item_id,) in rows}

        return self._run(known)

    def drop(self, name: str) -> None:
        self._run(lambda db: _drop(db, _find(db, name, is_writing=True)[0]))

    def replace(self, name: str, new: str, *, changes: int) -> bool:
        def replace(db: Connection) -> bool:
            number, found = _find(db, name, is_writing=True)
            if found.changes != changes:
                return False
            _drop(db, number)
            number, _ = _find(db, new, is_writing=True)
            db.execute("UPDATE hourglass_collections SET name = %s WHERE number = %s", (name, number))
            return True

        return self._run(replace)

    def search(self, name: str, vector: Vector, *, k: int, is_labelled: bool = False) -> list[Neighbour]:
        def search(db: Connection) -> list[Neighbour]:
            number, _ = _find(db, name)
            only = "AND label IS NOT NULL" if is_labelled else ""
            rows = _rows(
                db,
                "SELECT id, z <-> %s::real[]::vector AS distance, label, metadata FROM hourglass_items "
                f"WHERE collection = %s {only} ORDER BY distance, id LIMIT %s",
                vector.tolist(),
                number,
                k,
            )
            return [Neighbour(*row) for row in rows]

        return self._run(search)

    def close(self) -> None:
        with self._lock:
            connections, self._all = list(self._all.values()), {}
        for connection in connections:
            connection.close()

    @property
    def feedback(self) -> Feedback:
        return Feedback(self._alone(_FEEDBACK_LOCK), table="hourglass_feedback", blob="bytea")

    @property
    def trainings(self) -> Trainings:
        return Trainings(self._alone(_FEEDBACK_LOCK), table="hourglass_trainings")

    @property
    def aliases(self) -> AliasTable:
        return AliasTable(self._alone(_FEEDBACK_LOCK), table="hourglass_aliases")

    def jobs(self) -> JobQueue:
        """Return the job queue. Workers skip rows that others have locked."""
        alone = self._alone(_JOBS_LOCK)

        def make_table(ask: Ask) -> None:
            for statement in _JOBS.schema:
                ask(statement)

        alone(make_table)
        return JobQueue(self._alone(None), alone, _JOBS, self.close)

    def _alone(self, lock: int | None) -> Transaction:
        """Return a transaction, serialised with those of the same lock unless that is None."""

        def transaction(work: Callable[[Ask], T], purpose: Purpose = "write") -> T:
            def ask_with(db: Connection) -> T:
                if lock is not None:
                    db.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
                return work(lambda sql, *values: _fetch(db, sql.replace("?", "%s"), values))

            return self._run(ask_with)

        return transaction

    def _run(self, ask: Callable[[Connection], T]) -> T:
        is_new = getattr(self._mine, "connection", None) is None
        try:
            return self._attempt(ask)
        except psycopg.Error:
            if not is_new and self._mine.connection is None:  # it was broken, and the server may be back
                with _wrapped():
                    return self._attempt(ask)
            with _wrapped():
                raise

    def _attempt(self, ask: Callable[[Connection], T]) -> T:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = psycopg.connect(self._url, connect_timeout=_CONNECT_S, options=_OPTIONS)
            self._mine.connection = connection
            with self._lock:
                self._all[id(connection)] = connection
        try:
            with connection.transaction():
                return ask(connection)
        finally:
            if connection.closed:
                with self._lock:
                    self._all.pop(id(connection), None)
                self._mine.connection = None


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    """Turn failures of the server into `StoreUnavailable`. Other errors become a 500."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(
            f"the PostgreSQL server of the collections does not answer: {reason_of(error)}",
            headers={"Retry-After": "1"},
        ) from error
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.InsufficientPrivilege) as error:
        raise StoreUnavailable(
            f"the PostgreSQL database cannot hold collections: {reason_of(error)}; install pgvector, and let an "
            "administrator run CREATE EXTENSION vector in it"
        ) from error


def _create_tables(db: Connection) -> None:
    db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    if not _rows(db, "SELECT to_regclass('hourglass_items') IS NOT NULL")[0][0]:
        db.execute(_SCHEMA)


def _rows(db: Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  values of a row
    return db.execute(sql, values).fetchall()


def _fetch(db: Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement; empty if it returns none."""
    cursor = db.execute(sql, values)
    return cursor.fetchall() if cursor.description else []


def _find(db: Connection, name: str, *, is_writing: bool = False) -> tuple[int, Collection]:
    """Find a collection; a writer locks its row, so that writers of one collection are serialised."""
    rows = _rows(db, f"{_SELECT} WHERE name = %s {'FOR UPDATE' if is_writing else ''}", name)
    if not rows:
        names = [
            found
            for (found,) in _rows(
                db, "SELECT name FROM hourglass_collections WHERE position('~' in name) = 0 ORDER BY name LIMIT 20"
            )
        ]
        raise no_collection(name, names)
    return rows[0][0], _collection(rows[0])


def _create(db: Connection, name: str, encoder: Encoder, bounds: Bounds) -> tuple[int, Collection]:
    db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    with contextlib.suppress(CollectionNotFound):  # created by another process meanwhile
        return _find(db, name, is_writing=True)
    ((count,),) = _rows(db, "SELECT count(*) FROM hourglass_collections")
    if count >= bounds.max_collections:
        raise too_many_collections(name, bounds)
    ((number,),) = _rows(
        db,
        "INSERT INTO hourglass_collections (name, model, version, sha256, dim, created) "
        "VALUES (%s, %s, %s, %s, %s, %s) RETURNING number",
        *(name, encoder.model, encoder.version, encoder.sha256, encoder.dim, created := now()),
    )
    return number, Collection(name, encoder, 0, 0, created)


def _put(db: Connection, collection: int, items: Sequence[Item]) -> int:
    """Store items in one pipeline and return the number of new ones."""
    values = [
        (collection, item.id, item.label, write_metadata(item.metadata), now(), item.vector.tolist()) for item in items
    ]
    with db.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO hourglass_items (collection, id, label, metadata, updated, z) "
            "VALUES (%s, %s, %s, %s, %s, %s::real[]::vector) ON CONFLICT (collection, id) DO UPDATE SET "
            "label = excluded.label, metadata = excluded.metadata, updated = excluded.updated, z = excluded.z "
            "RETURNING xmax = 0",  # true for inserted rows, false for updated ones
            values,
            returning=True,
        )
        new = 0
        for result in cursor.results():
            new += sum(is_new for (is_new,) in result)
        return new


def _drop(db: Connection, number: int) -> None:
    db.execute("DELETE FROM hourglass_collections WHERE number = %s", (number,))


def _collection(row: tuple[Any, ...]) -> Collection:
    _, name, model, version, sha256, dim, items, changes, created = row
    return Collection(name, Encoder(model, version, sha256, dim), items, changes, created)
