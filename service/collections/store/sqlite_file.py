"""One SQLite file for any number of threads and processes: connections, transactions, and faults of the disk."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw

from service.collections.store.transaction import Ask, Purpose
from service.errors import HourglassError, StoreUnavailable, reason_of

T = TypeVar("T")

_BUSY_MS = 5000  # wait of a writer for others; each writes for a few milliseconds
_BUSY_READING_MS = 300  # readers only wait if the whole file is locked; a request may read three times
# Released on a full disk, since deleting needs some free space: 40 KiB for an item, 1 MiB for 10,000 of them.
_RESERVE_BYTES, _RESERVE_PART = 2**22, 1 / 8  # at most, and of what is free
_BLOCK_BYTES = 2**12  # as large as a page of SQLite

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
        released = self._make_room()
        try:
            with self.transaction(is_writing=True) as connection:
                yield connection
        finally:
            self._keep_in_reserve(released)

    def run(self, work: Callable[[Ask], T], purpose: Purpose = "write") -> T:
        """Run work in one transaction and return its result.

        Raises:
            StoreUnavailable: The file or disk is at fault.
        """
        with self.deleting() if purpose == "delete" else self.transaction(is_writing=purpose == "write") as db:
            return work(lambda sql, *values: rows_of(db, sql, *values))

    def _make_room(self) -> int:
        """On a full disk, release the reserve and move the write-ahead log into the file, which frees its space.

        Returns:
            The number of released bytes.
        """
        released = 0
        with contextlib.suppress(*_UNAVAILABLE):  # reported by the transaction, unless it still fits
            if shutil.disk_usage(self._path.parent).free < _RESERVE_BYTES:
                if self._reserve.exists():
                    released = self._reserve.stat().st_size
                    self._reserve.unlink()
                self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return released

    def _keep_in_reserve(self, released: int = 0) -> None:
        """Reserve some of the free space, or as much as was released, unless there is a reserve."""
        with contextlib.suppress(OSError):  # there is one, or the disk is full or read-only
            size = released or int(shutil.disk_usage(self._path.parent).free * _RESERVE_PART)
            with self._reserve.open("xb", buffering=0) as file:
                for _ in range(min(size, _RESERVE_BYTES) // _BLOCK_BYTES):
                    file.write(os.urandom(_BLOCK_BYTES))  # incompressible and not sparse

    @property
    def _reserve(self) -> Path:
        return self._path.with_name(f"{self._path.name}-reserve")

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and self._mine.file == _identity(self._path):
            return connection
        self._forget()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._open()
        self._keep_in_reserve()
        with contextlib.suppress(OSError):
            # Emptying the log may need as much space as it takes.
            connection.wal_autocheckpoint(max(1, self._reserve.stat().st_size // 2 // _BLOCK_BYTES))
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
    # A cached statement that has created a table asks for the lock of a writer, even if it has nothing to create.
    return list(db.execute(sql, values, can_cache=not sql.startswith("CREATE")))


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
