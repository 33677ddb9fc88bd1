"""One SQLite file for any number of threads and processes: connections, transactions, and faults of the disk."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from service.errors import HourglassError, StoreUnavailable, reason_of

_BUSY_MS = 5000  # wait of a writer for others; each writes for a few milliseconds
_BUSY_READING_MS = 300  # readers only wait if the whole file is locked; a request may read three times
_RESERVE_BYTES = 2**22  # released on a full disk, since deleting needs some free space

# Faults of the file or disk. Any other error is a bug, and a 500.
_UNAVAILABLE = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.ProtocolError,
    apsw.PermissionsError,
    OSError,
)


class SqliteFile:
    """A database file, created with its directory if missing. Each thread has its own connection.

    Args:
        path: Path of the file, on a local file system: SQLite's locks do not work on most network file systems.
        prepare: Sets up every new connection, and creates missing tables.
        what: Content of the file, for messages: "the collections".

    Raises:
        StoreUnavailable: The file cannot be opened, or has another schema.
    """

    def __init__(self, path: Path, prepare: Callable[[apsw.Connection, Path], None], *, what: str) -> None:
        self._path = path.absolute()
        self._prepare = prepare
        self._what = what
        self._mine = threading.local()
        self._all: dict[int, apsw.Connection] = {}
        self._lock = threading.Lock()
        with self.transaction(is_writing=False):
            pass

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            connections, self._all = list(self._all.values()), {}
        for connection in connections:
            connection.close()

    @contextlib.contextmanager
    def transaction(self, *, is_writing: bool) -> Iterator[apsw.Connection]:
        """Run the block in one transaction. Writers are serialised.

        Raises:
            StoreUnavailable: The file or disk is at fault.
        """
        try:
            connection = self._connection()
            connection.set_busy_timeout(_BUSY_MS if is_writing else _BUSY_READING_MS)
            connection.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except HourglassError:
            raise
        except _UNAVAILABLE as error:
            self._forget()
            raise StoreUnavailable(
                f"{self._what} in {self._path} cannot be used: {_reason(error)}", headers={"Retry-After": "1"}
            ) from error

    @contextlib.contextmanager
    def deleting(self) -> Iterator[apsw.Connection]:
        """Run the block in a transaction that frees space; on a full disk it uses the reserve."""
        reserve = self._path.with_name(f"{self._path.name}-reserve")
        try:
            if shutil.disk_usage(self._path.parent).free < _RESERVE_BYTES:
                reserve.unlink(missing_ok=True)
            with self.transaction(is_writing=True) as connection:
                yield connection
        finally:
            with contextlib.suppress(OSError):  # no space for it yet
                _keep_in_reserve(reserve)

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and self._mine.file == _identity(self._path):
            return connection
        self._forget()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._open()
        with contextlib.suppress(OSError):  # a full or read-only disk
            _keep_in_reserve(self._path.with_name(f"{self._path.name}-reserve"))
        self._mine.connection, self._mine.file = connection, _identity(self._path)
        with self._lock:
            self._all[id(connection)] = connection
        return connection

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path))
        try:
            connection.set_busy_timeout(_BUSY_READING_MS)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # acknowledged writes survive a power failure
            self._prepare(connection, self._path)
        except BaseException:
            connection.close(force=True)
            raise
        return connection

    def _forget(self) -> None:
        """Close this connection, so that the next call opens the file again."""
        connection: apsw.Connection | None = getattr(self._mine, "connection", None)
        if connection is not None:
            with self._lock:
                self._all.pop(id(connection), None)
            self._mine.connection = None
            connection.close(force=True)


@contextlib.contextmanager
def alone(connection: apsw.Connection) -> Iterator[None]:
    """Run the block in a transaction that waits for other writers."""
    connection.set_busy_timeout(_BUSY_MS)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


# Any: values of a row.
def rows_of(db: apsw.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """Return the rows of a statement."""
    return list(db.execute(sql, values))


def _keep_in_reserve(path: Path) -> None:
    """Write a file that reserves space, if the disk has plenty."""
    if path.exists() or shutil.disk_usage(path.parent).free < 4 * _RESERVE_BYTES:
        return
    path.write_bytes(os.urandom(2**16) * (_RESERVE_BYTES // 2**16))  # incompressible and not sparse


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file at a path: a deleted database stays writable while it is open."""
    try:
        status = os.stat(path)  # noqa: PTH116  called for every request, and twice as fast as Path.stat
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reason(error: Exception) -> str:
    text = reason_of(error)
    return f"{text.removeprefix(f'{type(error).__name__}: ')}; check free space and write permission"
