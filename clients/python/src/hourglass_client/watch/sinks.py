"""Sinks of verdicts: lines, a CSV file, a webhook, or the image itself, moved or copied by its verdict.

A sink receives every part once, in order. After an interruption it may receive the last one again: the CSV file and the
folders detect that, and a webhook's receiver can by the `Idempotency-Key`.
"""

import asyncio
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from hourglass_client.errors import ClientError
from hourglass_client.watch.part import Part
from hourglass_client.watch.source import Source

COLUMNS = ("id", "file", "verdict", "score", "threshold", "p_value", "regions", "model", "problem", "seen")
_WORD_ON_THE_LINE = {"normal": "OK", "anomalous": "NG", "failed": "ERROR"}
_RECEIVER_ERRORS = {408, 425, 429}  # and from 500 on: worth another attempt


class Unavailable(ClientError):  # noqa: N818  as in errors.py
    """A sink is unavailable; the same part is sent again later."""


class Sink(Protocol):
    """A receiver of verdicts. The history stores the last accepted part under its `name`."""

    name: str

    async def take(self, part: Part) -> None:
        """Accept one part.

        Raises:
            Unavailable: The sink cannot accept the part now.
        """

    async def close(self) -> None:
        """Close files and connections."""


class Lines:
    """Prints a line per part: OK, NG or ERROR, file, score and id, separated by tabs."""

    name = "lines"

    async def take(self, part: Part) -> None:
        """Print the line."""
        score = f"{part.verdict.score:.6g}" if part.verdict else ""
        print(_WORD_ON_THE_LINE[part.word], part.file, score, part.id, sep="\t", flush=True)

    async def close(self) -> None:
        """Do nothing: standard output stays open."""
        sys.stdout.flush()


class CsvFile:
    """Appends a row per part to a CSV file.

    Args:
        path: The file; created if missing, otherwise appended to.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"csv {path.resolve()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a row that a power cut has torn is written again
        rows = list(csv.reader(whole.decode().splitlines()))
        self._last_id = int(rows[-1][0]) if len(rows) > 1 else 0
        with path.open("r+b" if content else "wb") as file:
            file.truncate(len(whole))
        self._file = path.open("a", newline="")
        self._rows = csv.writer(self._file)
        if not rows:
            self._rows.writerow(COLUMNS)

    async def take(self, part: Part) -> None:
        """Append the row, unless it is already there."""
        if part.id <= self._last_id:
            return
        document = part.document()
        document["regions"] = len(document["regions"])
        self._rows.writerow(["" if document[name] is None else document[name] for name in COLUMNS])
        self._file.flush()
        self._last_id = part.id

    async def close(self) -> None:
        """Close the file."""
        self._file.close()


class Webhook:
    """Posts every part as JSON, with retries until it is accepted.

    Args:
        url: URL that answers 2xx to accept a part. A 4xx except 408, 425 and 429 rejects it permanently.
        history: Name of the history, which forms the `Idempotency-Key` with the part's id.
        say: Prints a message about a rejected part.
        timeout_s: Timeout of each attempt.
    """

    def __init__(self, url: str, history: str, say: Callable[[str], None], *, timeout_s: float = 10.0) -> None:
        self.name = f"webhook {url}"
        self._url, self._history, self._say = url, history, say
        self._http = httpx.AsyncClient(timeout=timeout_s)

    async def take(self, part: Part) -> None:
        """Post the part."""
        key = {"Idempotency-Key": f"{self._history}-{part.id}"}
        try:
            response = await self._http.post(self._url, json=part.document(), headers=key)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._url} does not answer: {error or type(error).__name__}") from error
        if response.status_code >= 500 or response.status_code in _RECEIVER_ERRORS:
            raise Unavailable(f"{self._url} answers {response.status_code}")
        if not response.is_success:
            self._say(f"{self._url} refused part {part.id}, {part.file}: {response.status_code}")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class Sorted:
    """The image itself, moved or copied into TARGET/normal, TARGET/anomalous or TARGET/failed.

    Args:
        target: A folder; for images of a bucket also the URL of one.
        source: The source of the images.
        moves: Move the image instead of copying it.
        moved: Called with the id of a part whose image was moved.
        say: Prints a message about an image that changed meanwhile.
    """

    def __init__(
        self, target: str, source: Source, *, moves: bool, moved: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        self.name = f"{'move' if moves else 'copy'} {target if '://' in target else Path(target).resolve()}"
        self._target, self._source, self._moves, self._moved, self._say = target, source, moves, moved, say

    async def take(self, part: Part) -> None:
        """Move or copy the image."""
        try:
            is_put = await asyncio.to_thread(self._source.put, part, self._target, moves=self._moves)
        except Exception as error:  # a bucket's errors are of its own library
            raise Unavailable(f"{part.file} cannot be put into {self._target}: {error}") from error
        if not is_put:
            self._say(f"{part.file} was overwritten before it could be put away; it will be judged again")
        elif self._moves:
            self._moved(part.id)

    async def close(self) -> None:
        """Do nothing: no file or connection is open."""
