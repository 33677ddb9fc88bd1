"""Tries model versions in a child process, so that a harmful one takes only the child down.

A graph is a program. Its first run can ask for a terabyte, never end, or crash onnxruntime. The child

    python -m service.probe 2147483648 30 1 64 25000000 models/digits/3 models/unet/1

limits its own memory and CPU time, then does what the service would do with each directory (`load_model`), and writes
one line of JSON per directory. The service loads what passed, and only the manifest that passed.

It always runs on the CPU: CUDA reserves more address space than any useful limit. The service runs the golden sample
again on its own provider when it loads the model.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from service.errors import ModelRejected, shown
from service.manifest import MANIFEST_FILE
from service.model import Limits, load_model

_CPU = "CPUExecutionProvider"
_LOOK_S = 0.25  # between looks at whether to stop; an answer is there at once
_NICE = 5  # a probe may take its time, answering may not
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class ProbeLimits:
    """What one child process may use: address space, and seconds of CPU time and on the clock."""

    memory_bytes: int
    timeout_s: int


class Verdict(BaseModel):
    """What became of one directory: the digest of the manifest that passed, or the reason why it did not."""

    manifest_sha256: str | None = None
    reason: str | None = None


def probe(
    directories: Sequence[Path], *, limits: Limits, allowed: ProbeLimits, stop: threading.Event
) -> Iterator[Verdict]:
    """The verdict on each directory, in order. One child looks at all of them as long as it lives.

    A child that ends early was killed by the directory it was looking at, or by what an earlier one had left behind. So
    only the first directory of a child can be blamed; the others get another child.

    Args:
        directories: `models/<name>/<version>`, each.
        limits: How the models will be run.
        allowed: What a child may use.
        stop: Ends the child and the verdicts early.
    """
    waiting = list(directories)
    while waiting:
        verdicts, ending = _run_child(waiting, limits, allowed, stop)
        if stop.is_set():
            return
        if not verdicts:
            verdicts = [Verdict(reason=_blame(ending, allowed))]
        yield from verdicts
        del waiting[: len(verdicts)]


def _run_child(
    directories: Sequence[Path], limits: Limits, allowed: ProbeLimits, stop: threading.Event
) -> tuple[list[Verdict], int | None]:
    """The verdicts that a child reached, and its exit status; None where its time was over."""
    command = [sys.executable, "-m", "service.probe", str(allowed.memory_bytes), str(allowed.timeout_s)]
    command += [str(limits.threads), str(limits.max_batch), str(limits.max_pixels)]
    command += [str(directory.absolute()) for directory in directories]
    # A graph gets neither our settings (the API keys are there) nor our files: stdin, stderr and all else are closed.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOURGLASS_")}
    child = subprocess.Popen(  # noqa: S603  our own interpreter and module
        command,
        cwd=_ROOT,
        env={**environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},  # each thread reserves address space
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with child:
        try:
            output = _wait(child, allowed.timeout_s, stop)
        finally:
            ending = child.poll()
            if ending is None:
                os.killpg(child.pid, signal.SIGKILL)
    return _read_verdicts(output, len(directories)), ending


def _wait(child: subprocess.Popen[bytes], timeout_s: float, stop: threading.Event) -> bytes:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return child.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired as error:
            if stop.is_set() or time.monotonic() > deadline:
                return error.output or b""


def _read_verdicts(output: bytes, expected: int) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for line in output.splitlines()[:expected]:
        try:
            verdicts.append(Verdict.model_validate_json(line))
        except ValidationError:  # it was cut off when the child died
            break
    return verdicts


def _blame(ending: int | None, allowed: ProbeLimits) -> str:
    if ending is None or ending == -getattr(signal, "SIGXCPU", 0):
        return (
            f"loading and running its golden sample takes more than {allowed.timeout_s} s (setting probe_timeout_s); "
            "make the model smaller or allow it more"
        )
    how = f"signal {signal.Signals(-ending).name}" if ending < 0 else f"exit status {ending}"
    return (
        f"it ended the process that tried it out ({how}); {_allows(allowed)}; make the model smaller, export it again, "
        "or allow it more"
    )


def _allows(allowed: ProbeLimits) -> str:
    return f"probing allows {allowed.memory_bytes} bytes of memory (setting probe_memory_bytes)"


# --- in the child ---


def _limit_this_process(allowed: ProbeLimits) -> None:
    if sys.platform == "win32":
        return  # no such limits there; the time on the clock still counts
    import resource  # noqa: PLC0415  Unix only

    for what, value in (
        (resource.RLIMIT_AS, allowed.memory_bytes),
        (resource.RLIMIT_CPU, allowed.timeout_s),
        (resource.RLIMIT_FSIZE, 0),  # it writes no files
        (resource.RLIMIT_CORE, 0),  # nor its memory
    ):
        _, hard = resource.getrlimit(what)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS
            resource.setrlimit(what, (most, most))
    os.nice(_NICE)
    with contextlib.suppress(OSError):  # Linux only: where memory runs out altogether, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _judge(directory: Path, limits: Limits, allowed: ProbeLimits) -> Verdict:
    try:
        digest = hashlib.sha256((directory / MANIFEST_FILE).read_bytes()).hexdigest()
        load_model(directory, provider=_CPU, limits=limits, manifest_sha256=digest)
    except ModelRejected as error:
        is_short = "alloc" in str(error).lower()  # onnxruntime has no error of its own for it
        return Verdict(reason=f"{error}; {_allows(allowed)}" if is_short else str(error))
    except MemoryError:
        return Verdict(reason=f"it does not fit into memory; {_allows(allowed)}")
    except Exception as error:  # noqa: BLE001  whatever it is, this version must not go live, and someone wants to know why
        return Verdict(reason=f"it cannot be loaded: {type(error).__name__}: {shown(str(error), limit=300)}")
    return Verdict(manifest_sha256=digest)


def main(argv: Sequence[str]) -> None:
    """Judges the directories on the command line and prints a verdict for each."""
    memory_bytes, timeout_s, threads, max_batch, max_pixels = (int(number) for number in argv[:5])
    allowed = ProbeLimits(memory_bytes, timeout_s)
    _limit_this_process(allowed)
    limits = Limits(threads=threads, max_batch=max_batch, max_pixels=max_pixels)
    for directory in argv[5:]:
        verdict = _judge(Path(directory), limits, allowed)
        print(json.dumps(verdict.model_dump()), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
