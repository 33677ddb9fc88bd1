"""Images that arrive in a folder, each once it is complete."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hourglass_client.folders import find_images, is_image_below
from hourglass_client.watch.part import Stamp, stamp_of

_TICK_S = 0.01
_AGAIN_S = 0.2
_RESCAN_S = 30.0  # what the system's notifications have missed: a full queue, a network file system


@dataclass(frozen=True)
class _Arriving:
    """A file that may still be written to: its last stamp, since when it has it, and until when it is left alone."""

    stamp: Stamp | None
    since: float
    not_before: float = 0.0


class Folder:
    """A watched folder.

    Args:
        path: The folder, watched recursively.
        is_known: Returns whether a file, by its path below the folder and its stamp, has been judged.
        ignored: Subfolders that are not watched.
        settle_s: Seconds without a change after which a file is complete.
    """

    def __init__(
        self, path: Path, is_known: Callable[[str, Stamp], bool], *, ignored: Sequence[Path] = (), settle_s: float
    ) -> None:
        self.path = path.resolve()
        self._is_known = is_known
        self._ignored = [folder.resolve() for folder in ignored]
        self._settle_s = settle_s
        self._pending: dict[Path, _Arriving] = {}
        self._handed_out: set[Path] = set()
        self._changed = asyncio.Event()

    def name_of(self, file: Path) -> str:
        """Return the path of a file below the folder, with slashes."""
        return file.relative_to(self.path).as_posix()

    @property
    def waiting(self) -> int:
        """Number of files that have arrived and are not yet yielded."""
        return len(self._pending)

    async def arrivals(self) -> AsyncIterator[tuple[Path, Stamp]]:
        """Yield every complete new file with its stamp: existing files first, then arriving ones.

        Call `done` or `again` for each.

        Raises:
            ImportError: watchfiles is not installed.
        """
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                for file, stamp in self._finished():
                    yield file, stamp
                if listening.done():
                    listening.result()
                if self._pending:
                    await asyncio.sleep(_TICK_S)
                else:
                    self._changed.clear()
                    waits = {listening, asyncio.create_task(self._changed.wait())}
                    _, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    for task in rest - {listening}:
                        task.cancel()
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    def done(self, file: Path) -> None:
        """Mark a file as judged; it is yielded again if it changed meanwhile."""
        self._handed_out.discard(file)
        self._note(file)

    def again(self, file: Path) -> None:
        """Yield an incomplete file again once it has settled."""
        self._handed_out.discard(file)
        self._pending[file] = _Arriving(None, time.monotonic(), time.monotonic() + _AGAIN_S)
        self._changed.set()

    async def _listen(self) -> None:
        from watchfiles import Change, awatch  # noqa: PLC0415  an extra

        changes = awatch(self.path, step=10, debounce=50, rust_timeout=int(_RESCAN_S * 1000), yield_on_timeout=True)
        scanned = time.monotonic()
        first = asyncio.create_task(self._scan())  # runs when the watch has begun, so nothing comes between
        async for found in changes:
            for change, name in found:
                path = Path(name)
                if change != Change.deleted:
                    if path.is_dir():
                        await self._scan(path)  # it may have been moved here with its files
                    else:
                        self._note(path)
            if time.monotonic() - scanned >= _RESCAN_S:
                await first
                await self._scan()
                scanned = time.monotonic()

    async def _scan(self, path: Path | None = None) -> None:
        for file in await asyncio.to_thread(find_images, [path or self.path]):
            self._note(file)

    def _note(self, file: Path) -> None:
        if file in self._pending or file in self._handed_out or not is_image_below(file, self.path):
            return
        if any(file.is_relative_to(folder) for folder in self._ignored):
            return
        with contextlib.suppress(FileNotFoundError):
            if not self._is_known(self.name_of(file), stamp_of(file)):
                self._pending[file] = _Arriving(None, time.monotonic())
                self._changed.set()

    def _finished(self) -> list[tuple[Path, Stamp]]:
        """Remove and return the settled files, oldest first."""
        found: list[tuple[Path, Stamp]] = []
        for file, arriving in list(self._pending.items()):
            try:
                stamp = stamp_of(file)
            except FileNotFoundError:
                del self._pending[file]
                continue
            now = time.monotonic()
            if stamp != arriving.stamp:
                arriving = replace(arriving, stamp=stamp, since=now)  # noqa: PLW2901  it has changed just now
                self._pending[file] = arriving
            # By its own time of change it may have settled before it was noticed.
            quiet_s = max(now - arriving.since, time.time() - stamp.mtime_ns / 1e9)
            if quiet_s >= self._settle_s and now >= arriving.not_before:
                del self._pending[file]
                if not self._is_known(self.name_of(file), stamp):
                    self._handed_out.add(file)
                    found.append((file, stamp))
        return sorted(found, key=lambda arrived: arrived[1].mtime_ns)
