"""Frames of a video file, a camera or a network stream, written as images into the watched folder.

So frames have the guarantees of `hourglass watch`: they wait for the service, survive a stop, and can be inspected
afterwards.
"""

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from hourglass_client.folders import write_whole

_MOST_WAITING = 50  # frames in the folder; a file then waits, and a stream leaves frames out
_SILENT_S = 10.0  # without a frame, a stream is opened again
_LONGEST_PAUSE_S = 10.0


class Video:
    """A video whose frames become files.

    Args:
        source: A file, the address of a stream such as `rtsp://camera/1`, or a camera such as `/dev/video0`.
        folder: Folder for the frames.
        every_s: Seconds between two frames; 0 takes all.
        waiting: Returns the number of frames waiting in the folder.
        say: Prints a message.

    Attributes:
        written: Names of the frames of a file that this run has written.
        left_out: Number of skipped frames of a stream.
    """

    def __init__(
        self, source: str, folder: Path, *, every_s: float, waiting: Callable[[], int], say: Callable[[str], None]
    ) -> None:
        self._source, self._folder, self._every_s = source, folder, every_s
        self._waiting, self._say = waiting, say
        self._stop = threading.Event()
        self.is_live = is_live(source)
        self.written: set[str] = set()
        self.left_out = 0
        self._seen = 0

    async def run(self, known: Collection[str]) -> None:
        """Write frames of a file until it ends, or of a stream indefinitely; a broken stream is reopened.

        Args:
            known: Names of frames that are judged already and not written again.

        Raises:
            ImportError: PyAV is not installed.
            OSError: A file cannot be read.
        """
        try:
            await asyncio.to_thread(self._follow if self.is_live else self._read, known)
        finally:
            self.end()

    def end(self) -> None:
        """Take no more frames."""
        self._stop.set()

    def _follow(self, known: Collection[str]) -> None:
        import av  # noqa: PLC0415  an extra

        pause_s = 0.5
        while not self._stop.is_set():
            before = self._seen
            try:
                self._read(known)
                reason = "the stream has ended"
            except (av.FFmpegError, OSError) as error:
                reason = str(error)
            if self._seen > before:
                pause_s = 0.5
            self._say(f"{self._source}: {reason}; opening it again")
            self._stop.wait(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _read(self, known: Collection[str]) -> None:
        import av  # noqa: PLC0415  as above

        prefix = "" if self.is_live else prefix_of(Path(self._source))
        camera = "v4l2" if self._source.startswith("/dev/") else None
        options = {"rtsp_transport": "tcp"} if self._source.startswith("rtsp:") else {}
        timeout = _SILENT_S if self.is_live else None
        next_s = float("-inf")
        with av.open(self._source, format=camera, options=options, timeout=timeout) as container:
            for number, frame in enumerate(container.decode(video=0)):
                self._seen += 1
                if self._stop.is_set():
                    return
                now_s = time.monotonic() if self.is_live else float(number if frame.time is None else frame.time)
                if now_s < next_s:
                    continue
                # On the grid, so that a frame that comes late moves none of those after it.
                next_s = now_s + self._every_s if next_s < now_s - self._every_s else next_s + self._every_s
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.png" if self.is_live else f"{prefix}{now_s:012.3f}.png"
                if name not in known and not (self._folder / name).exists() and self._has_room():
                    self._write(name, frame.to_image())

    def _has_room(self) -> bool:
        """Wait until there is room for a frame of a file; for a stream, return whether there is room."""
        if self.is_live:
            is_full = self._waiting() >= _MOST_WAITING
            self.left_out += is_full
            return not is_full
        while self._waiting() >= _MOST_WAITING and not self._stop.wait(0.02):
            pass
        return not self._stop.is_set()

    def _write(self, name: str, image: Image.Image) -> None:
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        write_whole(self._folder / name, file.getvalue())
        if not self.is_live:
            self.written.add(name)


def is_live(source: str) -> bool:
    """Return whether a source has no end: a stream or a camera, not a file."""
    return "://" in source or source.startswith("/dev/")


def prefix_of(file: Path) -> str:
    """Return the prefix of the names of a file's frames, which differs for another file of the same name.

    Raises:
        OSError: The file is missing.
    """
    found = file.stat()
    digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()
    return f"{file.stem}-{digest[:8]}-"
