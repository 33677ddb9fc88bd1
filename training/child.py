"""A command of `python -m training` as a child process, with its progress and output."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

from training.errors import RunError

REPORT_S = 2.0
_MOST_LINES = 500  # of one report
_BAR = "{desc}|{n_fmt}|{total_fmt}|"  # how the child draws its bars, for `_PROGRESS` to read
_PROGRESS = re.compile(r"(?P<what>.*?):? *\|(?P<done>\d+)\|(?P<all>\d+)\|")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

Report = Callable[[dict[str, object]], bool]


class Cancelled(Exception):  # noqa: N818  nothing is wrong
    """The command was cancelled."""


def run_child(command: Sequence[str], *, key: str, report: Report) -> None:
    """Run a command to its end. The command is killed if this process ends first.

    Args:
        command: Program and arguments.
        key: API key, passed in the environment.
        report: Called every 2 seconds with the progress of the command: `said`, `share` in [0, 1] or None, and new
            `lines` of output. Returns whether to continue.

    Raises:
        RunError: The command failed, with its own message.
        Cancelled: `report` returned False.
    """
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_BAR_FORMAT": _BAR, "TQDM_MININTERVAL": "0.5"}
    if key:
        environ["HGCLIENT_KEY"] = key
    child = subprocess.Popen(  # noqa: S603  words of this package
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  this process has no locks
    )
    output = _Output()
    assert child.stdout is not None  # noqa: S101  it is a pipe
    reader = threading.Thread(target=output.read, args=(child.stdout,))
    reader.start()
    try:
        while reader.is_alive():
            reader.join(REPORT_S)
            if not report(output.take()):
                raise Cancelled
    finally:
        child.kill()
        status = child.wait()
        reader.join()
        child.stdout.close()
    if status != 0:
        raise RunError(output.complaint or f"the command ended with status {status}, and said nothing")


class _Output:
    """Output of a child process, read incrementally."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._said = ""
        self._share: float | None = None
        self.complaint = ""

    def read(self, pipe: IO[bytes]) -> None:
        """Read to the end. Bars end with a carriage return, lines with a line break."""
        rest = b""
        while piece := os.read(pipe.fileno(), 65536):
            *whole, rest = re.split(rb"[\r\n]", rest + piece)
            self._note(whole)
        self._note([rest])

    def take(self) -> dict[str, object]:
        """Return the output since the last call."""
        with self._lock:
            lines, self._lines = self._lines[-_MOST_LINES:], []
            return {"said": self._said, "share": self._share, "lines": "".join(f"{line}\n" for line in lines)}

    def _note(self, pieces: list[bytes]) -> None:
        with self._lock:
            for piece in pieces:
                text = piece.decode("utf-8", "replace").strip()
                if found := _PROGRESS.fullmatch(text):
                    self._said = found["what"][:200]
                    self._share = min(1.0, int(found["done"]) / max(1, int(found["all"])))
                elif text:
                    self._lines.append(text[:1000])
                    self.complaint = text.removeprefix("error: ")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
