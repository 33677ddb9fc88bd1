"""Load model versions in a child process first, so that a harmful one only takes down the child.

A graph is a program. Its first run can allocate a terabyte, never end, or crash onnxruntime. The child

    python -m service.models.probe_child 2147483648 30 1 64 25000000 models/digits/5 models/unet/1

limits its own memory and CPU time, then loads each directory as the service would (`load_model`), and writes one line
of JSON per directory (`probe_child.py`). The service loads only versions that passed, with the manifest that passed.

The child always runs on the CPU: CUDA reserves more address space than any useful limit allows. The service runs the
golden sample again on its own provider when it loads the model.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from service.limits import Limits, ProbeLimits, probe_limits, run_limits
from service.models.directory import list_versions
from service.settings import Settings

_LOOK_S = 0.25  # between checks of the stop event; outcomes arrive without this delay
_ROOT = Path(__file__).parents[2]


class Outcome(BaseModel):
    """The outcome for one directory: digest of the accepted manifest, or reason for the rejection."""

    manifest_sha256: str | None = None
    reason: str | None = None


class Child:
    """A running child process that probes directories in order.

    Args:
        directories: Directories `models/<name>/<version>`.
        limits: Limits under which the models will run.
        allowed: Memory and time that the child may use.
    """

    def __init__(self, directories: Sequence[Path], limits: Limits, allowed: ProbeLimits) -> None:
        self.directories = list(directories)
        self._allowed = allowed
        command = [
            sys.executable,
            "-m",
            "service.models.probe_child",
            str(allowed.memory_bytes),
            str(allowed.timeout_s),
        ]
        command += [str(limits.threads), str(limits.max_batch), str(limits.max_pixels)]
        command += [str(directory.absolute()) for directory in directories]
        # A graph gets neither our settings, which include API keys, nor our files: all descriptors except stdout are
        # closed or null.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HOURGLASS_")}
        self._deadline = time.monotonic() + allowed.timeout_s
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            command,
            cwd=_ROOT,
            env={**environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},  # each thread reserves address space
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def outcomes(self, stop: threading.Event) -> list[Outcome]:
        """Return the outcomes in order, up to a directory that ended the child. There is at least one outcome."""
        try:
            output = _wait(self._process, self._deadline, stop)
        finally:
            ending = self._process.poll()
            self.kill()
        return _read_outcomes(output, len(self.directories)) or [Outcome(reason=_blame(ending, self._allowed))]

    def kill(self) -> None:
        """Kill the child if it still runs."""
        with self._process:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


def probe(
    directories: Sequence[Path],
    *,
    limits: Limits,
    allowed: ProbeLimits,
    stop: threading.Event,
    first: Child | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome for each directory, in order. One child probes all of them unless it dies.

    A child that dies was killed by the current directory, or by what an earlier one left behind. So only the first
    directory of a child is rejected for that; the others are probed by another child.

    Args:
        directories: Directories `models/<name>/<version>`.
        limits: Limits under which the models will run.
        allowed: Memory and time that a child may use.
        stop: Ends the child and the iteration early.
        first: A child that was started ahead of time; used if it probes the same directories.
    """
    waiting = list(directories)
    if first is not None and first.directories != waiting:
        first.kill()
        first = None
    while waiting:
        outcomes = (first or Child(waiting, limits, allowed)).outcomes(stop)
        first = None
        if stop.is_set():
            return
        yield from outcomes
        del waiting[: len(outcomes)]


def _wait(child: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> bytes:
    while True:
        try:
            return child.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired as error:
            if stop.is_set() or time.monotonic() > deadline:
                return error.output or b""


def _read_outcomes(output: bytes, expected: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for line in output.splitlines()[:expected]:
        try:
            outcomes.append(Outcome.model_validate_json(line))
        except ValidationError:  # truncated when the child died
            break
    return outcomes


def _blame(ending: int | None, allowed: ProbeLimits) -> str:
    if ending is None or ending == -getattr(signal, "SIGXCPU", 0):
        return (
            f"loading and running its golden sample takes more than {allowed.timeout_s} s (setting probe_timeout_s); "
            "make the model smaller or raise the limit"
        )
    how = f"signal {signal.Signals(-ending).name}" if ending < 0 else f"exit status {ending}"
    return (
        f"it ended the process that probed it ({how}); {allows(allowed)}; make the model smaller, export it again, "
        "or raise the limit"
    )


def allows(allowed: ProbeLimits) -> str:
    """Describe the memory limit of a child, as part of a sentence."""
    return f"probing allows {allowed.memory_bytes} bytes of memory (setting probe_memory_bytes)"


def start_child(settings: Settings) -> Child | None:
    """Start probing the newest version of every model; return None if there are no readable models.

    `probe` uses the child only if its directories are still the newest.
    """
    try:
        versions_by_name = list_versions(settings.models_dir)
    except OSError:
        return None  # the registry reports it
    newest = [settings.models_dir / name / str(versions[-1]) for name, versions in versions_by_name.items()]
    return Child(newest, run_limits(settings), probe_limits(settings)) if newest else None
