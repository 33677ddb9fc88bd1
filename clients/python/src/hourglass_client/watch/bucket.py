"""Images in a bucket: any file system of fsspec, such as s3://, gs://, az:// or sftp://, listed at intervals."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hourglass_client.folders import is_image_name, write_whole
from hourglass_client.watch.part import Part, Stamp
from hourglass_client.watch.source import Arrival

# What file systems call the time of the last change, and what else differs between versions of an object.
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_VERSIONS = ("ETag", "etag", "generation", "ino")


class Bucket:
    """A watched bucket or a folder in it, a `Source`.

    An object is complete when two listings show the same size and time of change.

    Args:
        url: URL of the bucket or of a folder in it.
        is_known: Returns whether an object, by its path below the URL and its stamp, has been judged.
        every_s: Seconds between two listings.
        ignored: Folders and URLs, of which those in the bucket are not watched.
        settles: Objects may still be written to when they are listed; if False, they are taken at the first listing.
        say: Prints a message about a failed listing or a missing folder.

    Raises:
        ValueError: The URL is unknown, its file system is not installed, or it cannot be listed.
    """

    def __init__(
        self,
        url: str,
        is_known: Callable[[str, Stamp], bool],
        *,
        every_s: float,
        ignored: Sequence[str] = (),
        settles: bool,
        say: Callable[[str], None],
    ) -> None:
        self._url, self._is_known, self._every_s, self._settles, self._say = url, is_known, every_s, settles, say
        self._fs, root = _open(url)
        self._root = root.rstrip("/")
        places = [_open(place) for place in ignored if "://" in place]
        self._ignored = [f"{path.rstrip('/')}/" for fs, path in places if fs == self._fs]
        self._handed_out: set[str] = set()
        self._judged: dict[str, Stamp] = {}  # by the last listing, so that the history is asked once per object
        self._waiting = 0
        self._is_away = self._is_missing = False
        try:
            self._first = self._list()
        except Exception as error:  # every file system has errors of its own
            raise ValueError(f"{url} cannot be listed: {error or type(error).__name__}") from error

    @property
    def waiting(self) -> int:
        """Number of objects that have arrived and are not yet yielded."""
        return self._waiting

    async def arrivals(self) -> AsyncGenerator[Arrival]:
        """Yield every new object; see `Source`. A bucket has no end, and a failed listing is repeated."""
        before: dict[str, Stamp] = {}
        found: dict[str, Stamp] | None = self._first
        while True:
            if found is not None:
                arrived = [Arrival(*item) for item in found.items() if not self._is_judged(*item)]
                if self._settles:
                    arrived = [arrival for arrival in arrived if before.get(arrival.name) == arrival.stamp]
                self._waiting = len(arrived)
                for arrival in sorted(arrived, key=lambda arrival: arrival.stamp.mtime_ns):
                    self._handed_out.add(arrival.name)
                    self._waiting -= 1
                    yield arrival
                before = found
            await asyncio.sleep(self._every_s)
            found = await self._look()

    async def _look(self) -> dict[str, Stamp] | None:
        """Return a listing, or None if there is none now."""
        try:
            found = await asyncio.to_thread(self._list)
        except Exception as error:  # noqa: BLE001  every file system has errors of its own
            if not self._is_away:
                self._say(f"{self._url} cannot be listed: {error or type(error).__name__}; waiting")
            self._is_away = True
            return None
        self._is_away = False
        return found

    async def read(self, arrival: Arrival) -> bytes | None:
        """Return the bytes of an object, or None if it has changed, is missing, or its bucket does not answer."""
        try:
            return await asyncio.to_thread(self._read, arrival)
        except Exception:  # noqa: BLE001  as above; the next listing says what is wrong
            return None

    def done(self, name: str) -> None:
        """Mark an object as judged; it is yielded again if it changed meanwhile."""
        self._handed_out.discard(name)

    def again(self, name: str) -> None:
        """Yield an incomplete object again after the next listing."""
        self._handed_out.discard(name)

    def put(self, part: Part, target: str, *, moves: bool) -> bool:
        """Move or copy the object of a part to a folder, or to a bucket of any file system; see `Source`.

        An object of the same name and content counts as the same one.
        """
        source, (fs, root) = f"{self._root}/{part.file}", _open(target)
        try:
            content = self._read(Arrival(part.file, part.stamp))
        except FileNotFoundError:  # put away before the stop, or taken by somebody else
            return True
        if content is None:
            return False
        place = PurePosixPath(root.rstrip("/")) / part.word / part.file
        for path in (place, place.with_name(f"{place.stem}.{part.id}{place.suffix}")):
            if not fs.exists(str(path)):
                _write(fs, str(path), content)
                break
            if fs.cat_file(str(path)) == content:
                break
        if moves:
            self._fs.rm_file(source)
            self._judged.pop(part.file, None)
        return True

    def _list(self) -> dict[str, Stamp]:
        self._fs.invalidate_cache()
        found: dict[str, Stamp] = {}
        for path, about in self._fs.find(self._root, detail=True).items():
            name = path.removeprefix(self._root).lstrip("/")
            is_ignored = any(path.startswith(place) for place in self._ignored)
            if name and not is_ignored and is_image_name(name):
                found[name] = _stamp(about)
        self._judged = {name: stamp for name, stamp in self._judged.items() if found.get(name) == stamp}
        is_missing = not found and not self._fs.exists(self._root)
        if is_missing and not self._is_missing:  # a new one, perhaps: in many stores a folder begins with its objects
            self._say(f"{self._url} is empty or does not exist; waiting")
        self._is_missing = is_missing
        return found

    def _is_judged(self, name: str, stamp: Stamp) -> bool:
        if name in self._handed_out or self._judged.get(name) == stamp:
            return True
        if self._is_known(name, stamp):
            self._judged[name] = stamp
            return True
        return False

    def _read(self, arrival: Arrival) -> bytes | None:
        path = f"{self._root}/{arrival.name}"
        content: bytes = self._fs.cat_file(path)
        self._fs.invalidate_cache()
        return content if _stamp(self._fs.info(path)) == arrival.stamp else None


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ValueError(f"{url}: {error}, beside hourglass-client[bucket]") from error
    return fs, str(path)


def _stamp(about: Mapping[str, Any]) -> Stamp:  # Any: what a file system says of an object
    changed = next((about[key] for key in _TIMES if about.get(key)), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    version = next((str(about[key]) for key in _VERSIONS if about.get(key)), "")
    digest = int.from_bytes(hashlib.sha256(version.encode()).digest()[:7]) if version else 0
    return Stamp(about["size"] or 0, int(float(changed) * 1e9), digest)


def _write(fs: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
    if isinstance(fs, LocalFileSystem):
        write_whole(path, content)
    else:
        fs.pipe_file(path, content)
