"""The file of a `SqliteStore`: opened with its tables, its size, and the room kept in reserve beside it."""

import os
import shutil
from pathlib import Path
from typing import Any

import apsw
import sqlite_vec

from service.errors import StoreUnavailable

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL, dim INTEGER NOT NULL,
    items INTEGER NOT NULL DEFAULT 0,
    changes INTEGER NOT NULL DEFAULT 0,
    created TEXT NOT NULL
) STRICT;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
    id TEXT NOT NULL,
    label TEXT,
    metadata TEXT,
    updated TEXT NOT NULL,
    UNIQUE (collection, id)
) STRICT;
"""
BUSY_MS = 5000  # a writer waits so long for another one; each writes for a few milliseconds
BUSY_READING_MS = 300  # readers wait for nobody, unless someone locks the whole file; a request may read three times
RESERVE_BYTES = 2**22  # given up on a full disk, so that deleting, which needs some room, can make more


def open_file(path: Path) -> apsw.Connection:
    """Open the file, and make its tables if it has none.

    Raises:
        StoreUnavailable: Its tables are of another version of the service.
    """
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_READING_MS)
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.enable_load_extension(False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives a power failure, too
        connection.execute("PRAGMA foreign_keys = ON")
        if _form(connection) == 0:
            connection.set_busy_timeout(BUSY_MS)
            connection.execute("BEGIN IMMEDIATE")  # one worker makes the tables, those that waited for it do not
            if _form(connection) == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")
        found = _form(connection)
    except BaseException:
        connection.close(force=True)
        raise
    if found != _SCHEMA_VERSION:
        connection.close()
        raise StoreUnavailable(
            f"{path} has collections of form {found}, this version of the service reads form {_SCHEMA_VERSION}; "
            "set collections_url to another file"
        )
    return connection


def keep_in_reserve(path: Path) -> None:
    """Write a file that takes room on the disk, where there is plenty."""
    if path.exists() or shutil.disk_usage(path.parent).free < 4 * RESERVE_BYTES:
        return
    path.write_bytes(os.urandom(2**16) * (RESERVE_BYTES // 2**16))  # nothing that a file system would leave out


def size_of(db: apsw.Connection) -> int:
    """Count the bytes of the file, without what is free in it."""
    ((pages,),), ((free,),), ((page_bytes,),) = (
        rows_of(db, f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def _form(connection: apsw.Connection) -> int:
    """Of the tables in a file; 0 where there are none."""
    ((found,),) = rows_of(connection, "PRAGMA user_version")
    return int(found)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return which file a path leads to: a database that was removed stays writable for those who have it open."""
    try:
        status = os.stat(path)  # noqa: PTH116  every request asks, and this costs half of Path.stat
    except OSError:
        return None
    return status.st_dev, status.st_ino


# Any: what a row holds; the tables are STRICT.
def rows_of(db: apsw.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """Run a statement and return its rows."""
    return list(db.execute(sql, values))
