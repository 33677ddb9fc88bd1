"""The job queue in an SQLite file. Writers are serialised, so no job is leased twice."""

from pathlib import Path

import apsw

from service.collections.store.job_table import Dialect
from service.collections.store.jobs import JobQueue
from service.collections.store.sqlite_file import SqliteFile, alone, rows_of

_DIALECT = Dialect(
    table="jobs",
    blob="BLOB",
    identity="INTEGER PRIMARY KEY AUTOINCREMENT",
    now="unixepoch('subsec')",
    skip_locked="",
)


def open_queue(path: Path) -> JobQueue:
    """Open the queue in a file, created with its directory if missing.

    Raises:
        StoreUnavailable: The file cannot be opened.
    """
    file = SqliteFile(path, _prepare, what="the jobs")
    return JobQueue(file.run, file.run, _DIALECT, file.close)


def _prepare(connection: apsw.Connection, _: Path) -> None:
    if rows_of(connection, "SELECT 1 FROM sqlite_schema WHERE name = ?", f"{_DIALECT.table}_beats"):
        return
    with alone(connection):
        for statement in _DIALECT.schema:
            connection.execute(statement)
