"""The tables of the collections in an SQLite file."""

from pathlib import Path

import apsw
import sqlite_vec

from service.collections.store.sqlite_file import alone, rows_of
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


def prepare(connection: apsw.Connection, path: Path) -> None:
    """Load sqlite-vec, and create the tables of a new file.

    Raises:
        StoreUnavailable: The tables have another schema version.
    """
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    connection.execute("PRAGMA foreign_keys = ON")
    if _form(connection) == 0:
        with alone(connection):  # only the first of several workers creates the tables
            if _form(connection) == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    if (found := _form(connection)) != _SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{path} has schema version {found}, this service reads version {_SCHEMA_VERSION}; "
            "set collections_url to another file"
        )


def size_of(db: apsw.Connection) -> int:
    """Return the size of the file in bytes, without free pages."""
    ((pages,),), ((free,),), ((page_bytes,),) = (
        rows_of(db, f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def _form(connection: apsw.Connection) -> int:
    """Return the schema version of a file; 0 if it has no tables."""
    ((found,),) = rows_of(connection, "PRAGMA user_version")
    return int(found)
