"""A record of finished files, so that an interrupted command resumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hourglass_client.folders import write_whole

Row = dict[str, Any]  # Any: JSON
_FOLDER_RECORD = ".hourglass.json"


class Journal:
    """A file with a line of JSON for the request, then one for every finished image.

    Args:
        path: The file; created if missing, restarted if the request differs.
        asked: The request: the command and its options.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self._path = path
        self._row_by_file: dict[str, Row] = {}
        self._stamp_by_file: dict[str, list[int]] = {}
        head = json.dumps(asked)
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # what has no end of line was torn
        if lines[:1] == [head]:
            for line in lines[1:]:
                entry = json.loads(line)
                self._row_by_file[entry["file"]] = entry["row"]
                self._stamp_by_file[entry["file"]] = entry["stamp"]
        else:
            lines = [head]
        write_whole(path, "".join(f"{line}\n" for line in lines).encode())
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()

    def row(self, file: Path) -> Row | None:
        """Return the row of a file that is finished and unchanged since."""
        name = str(file)
        if name in self._row_by_file and self._stamp_by_file[name] == _stamp(file):
            return self._row_by_file[name]
        return None

    def pinned(self) -> tuple[str, int] | None:
        """Return the name and version of the model that made the first row; None if there is no row."""
        for row in self._row_by_file.values():
            name, _, version = row["model"].partition("/")
            return name, int(version)
        return None

    def add(self, file: Path, row: Row) -> None:
        """Add the row of a finished file."""
        name, stamp = str(file), _stamp(file)
        self._file.write(json.dumps({"file": name, "stamp": stamp, "row": row}) + "\n")
        self._file.flush()
        self._row_by_file[name], self._stamp_by_file[name] = row, stamp

    def remove(self) -> None:
        """Delete the journal, once all files are finished."""
        self._file.close()
        self._path.unlink()


def unfinished(target_by_file: Mapping[Path, Path], folder: Path, asked: Mapping[str, Any]) -> dict[Path, Path]:
    """Return those files whose target is missing, older than the file, or made before this was asked of the folder.

    What was asked, and since when, is kept in the folder of the targets.
    """
    record, head = folder / _FOLDER_RECORD, json.dumps(asked).encode()
    if not record.exists() or record.read_bytes() != head:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(record, head)
    asked_ns = record.stat().st_mtime_ns

    def is_finished(file: Path, target: Path) -> bool:
        return target.exists() and target.stat().st_mtime_ns >= max(asked_ns, file.stat().st_mtime_ns)

    return {file: target for file, target in target_by_file.items() if not is_finished(file, target)}


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
