"""Frames of a video file, a camera or a network stream, written as images into the watched folder.

So frames have the guarantees of `hourglass watch`: they wait for the service, survive a stop, and can be inspected
afterwards.
"""

import asyncio
import contextlib
import hashlib
import io
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from hourglass_client.folders import write_whole
from hourglass_client.watch.folder import Folder
from hourglass_client.watch.history import History
from hourglass_client.watch.source import Arrival

_MOST_WAITING = 50  # frames in the folder; a file then waits, and a stream leaves frames out
_SILENT_S = 10.0  # without a frame, a stream is opened again
_LONGEST_PAUSE_S = 10.0
_GOODBYE_S = 0.1  # for the reader; one that waits for a silent stream is left behind


class Video(Folder):
    """The folder of a video's frames, a `Source`: it fills itself with frames and ends with the video.

    Args:
        video: A file, the address of a stream such as `rtsp://camera/1`, or a camera such as `/dev/video0`.
        path: Folder for the frames.
        history: The history, which knows the judged frames.
        every_s: Seconds between two frames; 0 takes all.
        ignored: Subfolders that are not watched.
        say: Prints a message.

    Attributes:
        left_out: Number of frames of a stream that were left out, because they came faster than they were judged.
    """

    def __init__(
        self,
        video: str,
        path: Path,
        history: History,
        *,
        every_s: float,
        ignored: Sequence[Path] = (),
        say: Callable[[str], None],
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        super().__init__(path, history.knows, ignored=ignored, settle_s=0)  # frames are renamed into place
        self._video, self._every_s, self._say = video, every_s, say
        self._is_live = is_live(video)
        self._prefix = "" if self._is_live else prefix_of(Path(video))
        self._judged = set() if self._is_live else history.names(self._prefix)  # also those that were moved away
        self._stop = threading.Event()
        self._seen = 0
        self.left_out = 0

    async def arrivals(self) -> AsyncGenerator[Arrival]:
        """Yield every frame; see `Source`.

        Raises:
            ImportError: PyAV or watchfiles is not installed.
            OSError: A file cannot be read.
        """
        filming = asyncio.create_task(self._film())
        try:
            async for arrival in super().arrivals():
                yield arrival
            await filming
        finally:
            self._stop.set()
            await asyncio.wait([filming], timeout=_GOODBYE_S)
            filming.cancel()
            if self.left_out:
                self._say(f"{self.left_out} frames were left out: they came faster than they were judged")

    async def _film(self) -> None:
        """Write frames of a file until it ends, or of a stream until the stop; a broken stream is reopened."""
        try:
            await _in_daemon(self._follow if self._is_live else self._read_frames)
        finally:
            await self.complete()

    def _follow(self) -> None:
        import av  # noqa: PLC0415  an extra

        pause_s = 0.5
        while not self._stop.is_set():
            before = self._seen
            try:
                self._read_frames()
                reason = "the stream has ended"
            except (av.FFmpegError, OSError) as error:
                reason = str(error)
            if self._seen > before:
                pause_s = 0.5
            if self._stop.is_set():
                return
            self._say(without_password(f"{self._video}: {reason}; opening it again"))
            self._stop.wait(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _read_frames(self) -> None:
        import av  # noqa: PLC0415  as above

        camera = "v4l2" if self._video.startswith("/dev/") else None
        options = {"rtsp_transport": "tcp"} if self._video.startswith("rtsp") else {}
        timeout = _SILENT_S if self._is_live else None
        next_s = float("-inf")
        with av.open(self._video, format=camera, options=options, timeout=timeout) as container:
            for number, frame in enumerate(container.decode(video=0)):
                self._seen += 1
                if self._stop.is_set():
                    return
                now_s = time.monotonic() if self._is_live else float(number if frame.time is None else frame.time)
                if now_s < next_s:
                    continue
                # On the grid, so that a frame that comes late moves none of those after it.
                next_s = now_s + self._every_s if next_s < now_s - self._every_s else next_s + self._every_s
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z" if self._is_live else f"{self._prefix}{now_s:012.3f}"
                target = self.path / f"{name}.png"
                if target.name not in self._judged and not target.exists() and self._has_room():
                    write_whole(target, _png(frame.to_image()))

    def _has_room(self) -> bool:
        """Wait until there is room for a frame of a file; for a stream, return whether there is room."""
        if self._is_live:
            is_full = self.waiting >= _MOST_WAITING
            self.left_out += is_full
            return not is_full
        while self.waiting >= _MOST_WAITING and not self._stop.wait(0.02):
            pass
        return not self._stop.is_set()


def _in_daemon(work: Callable[[], None]) -> asyncio.Future[None]:
    """Run a function in a thread that does not delay the end of the process: FFmpeg's reading cannot be interrupted."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():  # cancelled
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # noqa: BLE001  raised again for the reader
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, daemon=True).start()
    return done


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def is_live(video: str) -> bool:
    """Return whether a video has no end: a stream or a camera, not a file."""
    return "://" in video or video.startswith("/dev/")


def without_password(text: str) -> str:
    """Return a text without the user names and passwords of the URLs in it."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def prefix_of(file: Path) -> str:
    """Return the prefix of the names of a file's frames, which differs for another file of the same name.

    Raises:
        OSError: The file is missing.
    """
    found = file.stat()
    digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()
    return f"{file.stem}-{digest[:8]}-"
