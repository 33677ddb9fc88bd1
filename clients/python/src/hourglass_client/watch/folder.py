"""Images that arrive in a folder, each once it is complete."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hourglass_client.folders import find_images, is_image_below
from hourglass_client.watch.part import Part, Stamp, stamp_of
from hourglass_client.watch.source import Arrival

_TICK_S = 0.01
_AGAIN_S = 0.2


@dataclass(frozen=True)
class _Arriving:
    """A file that may still be written to: its last stamp, since when it has it, and until when it is left alone."""

    stamp: Stamp | None
    since: float
    not_before: float = 0.0


class Folder:
    """A watched folder, a `Source`.

    Args:
        path: The folder, watched recursively.
        is_known: Returns whether a file, by its path below the folder and its stamp, has been judged.
        ignored: Subfolders that are not watched.
        settle_s: Seconds without a change after which a file is complete.
        rescan_s: Seconds between two full scans, which find what notifications have missed: a full queue, a network
            file system.
    """

    def __init__(
        self,
        path: Path,
        is_known: Callable[[str, Stamp], bool],
        *,
        ignored: Sequence[Path] = (),
        settle_s: float,
        rescan_s: float = 30.0,
    ) -> None:
        self.path = path.resolve()
        self._is_known = is_known
        self._ignored = [folder.resolve() for folder in ignored]
        self._settle_s, self._rescan_s = settle_s, rescan_s
        self._pending: dict[Path, _Arriving] = {}
        self._handed_out: set[Path] = set()
        self._changed = asyncio.Event()
        self._is_complete = False

    @property
    def waiting(self) -> int:
        """Number of files that have arrived and are not yet yielded."""
        return len(self._pending)

    async def arrivals(self) -> AsyncGenerator[Arrival]:
        """Yield every new image; see `Source`.

        Raises:
            ImportError: watchfiles is not installed.
        """
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                for arrival in self._finished():
                    yield arrival
                if listening.done():
                    listening.result()
                if self._pending:
                    await asyncio.sleep(_TICK_S)
                elif self._is_complete and not self._handed_out:
                    return
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

    async def complete(self) -> None:
        """End `arrivals` once all files that are now in the folder are judged: no other ones will come."""
        await self._scan()
        self._is_complete = True
        self._changed.set()

    async def read(self, arrival: Arrival) -> bytes | None:
        """Return the bytes of a file, or None if it has changed or is missing."""
        file = self.path / arrival.name
        try:
            content = await asyncio.to_thread(file.read_bytes)
            return content if stamp_of(file) == arrival.stamp else None
        except OSError:
            return None

    def done(self, name: str) -> None:
        """Mark a file as judged; it is yielded again if it changed meanwhile."""
        self._handed_out.discard(self.path / name)
        self._note(self.path / name)
        self._changed.set()

    def again(self, name: str) -> None:
        """Yield an incomplete file again once it has settled."""
        self._handed_out.discard(self.path / name)
        self._pending[self.path / name] = _Arriving(None, time.monotonic(), time.monotonic() + _AGAIN_S)
        self._changed.set()

    def put(self, part: Part, target: str, *, moves: bool) -> bool:
        """Move or copy the file of a part below the folder `target`; see `Source`."""
        file = self.path / part.file
        try:
            if stamp_of(file) != part.stamp:
                return False
            _put(file, Path(target) / part.word / part.file, part.id, moves=moves)
        except FileNotFoundError:  # put away before the stop, or taken by somebody else
            pass
        return True

    async def _listen(self) -> None:
        from watchfiles import Change, awatch  # noqa: PLC0415  an extra

        changes = awatch(
            self.path, step=10, debounce=50, rust_timeout=int(self._rescan_s * 1000), yield_on_timeout=True
        )
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
            if time.monotonic() - scanned >= self._rescan_s:
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
            if not self._is_known(self._name_of(file), stamp_of(file)):
                self._pending[file] = _Arriving(None, time.monotonic())
                self._changed.set()

    def _name_of(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _finished(self) -> list[Arrival]:
        """Remove and return the settled files, oldest first."""
        found: list[Arrival] = []
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
                if not self._is_known(self._name_of(file), stamp):
                    self._handed_out.add(file)
                    found.append(Arrival(self._name_of(file), stamp))
        return sorted(found, key=lambda arrival: arrival.stamp.mtime_ns)


def _put(file: Path, target: Path, part_id: int, *, moves: bool) -> None:
    if target.exists():
        numbered = target.with_name(f"{target.stem}.{part_id}{target.suffix}")
        if not moves and (numbered.exists() or _is_same(target, file)):
            return  # copied before the stop
        target = numbered
    target.parent.mkdir(parents=True, exist_ok=True)
    if moves:
        try:
            file.rename(target)
            return
        except OSError:  # another file system
            pass
    part_file = target.with_name(f".{target.name}.part")
    shutil.copy2(file, part_file)
    part_file.replace(target)
    if moves:
        file.unlink()


def _is_same(copy: Path, file: Path) -> bool:
    a, b = stamp_of(copy), stamp_of(file)
    return (a.size, a.mtime_ns) == (b.size, b.mtime_ns)  # copy2 keeps the time
