"""The history of a watched source in SQLite: every part once, and the position of every sink.

A part is stored before any sink receives it, and a sink's position after it has accepted a part. So a stop at any
point loses no part. At most one part, with the same id, is sent to a sink again.
"""

import fcntl
import json
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hourglass_client.answers import Region, Verdict
from hourglass_client.watch.part import Part, Stamp

_SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    seen TEXT NOT NULL, verdict TEXT NOT NULL, score REAL, threshold REAL, p_value REAL, model TEXT, problem TEXT,
    document TEXT,               -- the whole verdict as JSON
    is_gone INTEGER NOT NULL DEFAULT 0   -- moved away: a file like it that comes again is another part
);
CREATE UNIQUE INDEX IF NOT EXISTS parts_once ON parts (file, size, mtime_ns, inode) WHERE is_gone = 0;
CREATE TABLE IF NOT EXISTS sinks (name TEXT PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_INSERT = """
INSERT INTO parts (file, size, mtime_ns, inode, seen, verdict, score, threshold, p_value, model, problem, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class History:
    """The database of one watched source. One `hourglass watch` writes it at a time; other processes may read it.

    Args:
        path: Path of the database; created if missing.

    Raises:
        ValueError: Another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Path(f"{path}.lock").open("w")  # noqa: SIM115  held as long as this object
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ValueError(f"another `hourglass watch` uses {path}; choose another --history") from error
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a verdict survives a power cut
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT OR IGNORE INTO about VALUES ('name', ?)", [uuid.uuid4().hex])
        self.name: str = self._db.execute("SELECT value FROM about WHERE key = 'name'").fetchone()[0]
        self._last: int = self._db.execute("SELECT coalesce(max(id), 0) FROM parts").fetchone()[0]
        self._position_by_sink: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._db.close()
        self._lock.close()

    def register(self, sinks: Sequence[str]) -> None:
        """Register the sinks. A new name starts with the next part."""
        marks = ", ".join("?" * len(sinks))
        self._db.execute(f"DELETE FROM sinks WHERE name NOT IN ({marks})", sinks)  # noqa: S608  question marks
        for sink in sinks:
            self._db.execute("INSERT OR IGNORE INTO sinks SELECT ?, coalesce(max(id), 0) FROM parts", [sink])
        self._position_by_sink = dict(self._db.execute("SELECT name, position FROM sinks"))

    def knows(self, file: str, stamp: Stamp) -> bool:
        """Return whether this image has been judged."""
        query = "SELECT 1 FROM parts WHERE file = ? AND size = ? AND mtime_ns = ? AND inode = ? AND is_gone = 0"
        return self._db.execute(query, [file, *stamp]).fetchone() is not None

    def names(self, prefix: str) -> set[str]:
        """Return the judged files whose names begin with `prefix`, including moved ones."""
        query = "SELECT file FROM parts WHERE substr(file, 1, length(?)) = ?"
        return {file for (file,) in self._db.execute(query, [prefix, prefix])}

    def add(self, part: Part) -> Part:
        """Store a part and return it with its id."""
        v = part.verdict
        measured = [v.score, v.threshold, v.p_value, v.model] if v else [None] * 4
        document = json.dumps(asdict(v)) if v else None
        row = [part.file, *part.stamp, part.seen, part.word, *measured, part.problem, document]
        self._last = self._db.execute(_INSERT, row).lastrowid or 0
        return replace(part, id=self._last)

    def backlog(self) -> int:
        """Return the number of parts that the slowest sink has not accepted yet."""
        return self._last - min(self._position_by_sink.values(), default=self._last)

    def position(self, sink: str) -> int:
        """Return the id of the last part that a sink has accepted."""
        return self._position_by_sink[sink]

    def waiting(self, sink: str, limit: int = 100) -> list[Part]:
        """Return the next parts for a sink, in order of ids."""
        query = (
            "SELECT id, file, size, mtime_ns, inode, seen, verdict, problem, document FROM parts WHERE id > ? "
            "ORDER BY id LIMIT ?"
        )
        return [_part(row) for row in self._db.execute(query, [self._position_by_sink[sink], limit])]

    def taken(self, sink: str, part_id: int) -> None:
        """Record that a sink has accepted all parts up to this one."""
        self._db.execute("UPDATE sinks SET position = ? WHERE name = ?", [part_id, sink])
        self._position_by_sink[sink] = part_id

    def gone(self, part_id: int) -> None:
        """Record that the file of a part has been moved away."""
        self._db.execute("UPDATE parts SET is_gone = 1 WHERE id = ?", [part_id])

    def __iter__(self) -> Iterator[Part]:
        query = "SELECT id, file, size, mtime_ns, inode, seen, verdict, problem, document FROM parts ORDER BY id"
        return (_part(row) for row in self._db.execute(query))


def _part(row: Sequence[Any]) -> Part:  # Any: a row of SQLite
    part_id, file, size, mtime_ns, inode, seen, word, problem, document = row
    verdict = None
    if document is not None:
        fields = json.loads(document)
        fields["regions"] = tuple(Region(**region) for region in fields["regions"])
        fields["unlike_training"] = tuple(fields.get("unlike_training", ()))
        fields.setdefault("verdict", "anomalous" if fields["is_anomalous"] else "good")  # of an older client
        verdict = Verdict(**fields)
    return Part(part_id, file, Stamp(size, mtime_ns, inode), seen, word, verdict, problem)
