"""Try model versions in a child process: limit itself, load each, print a outcome. See `models.probe`.

python -m service.models.probe_child 2147483648 30 1 64 25000000 models/digits/5 models/unet/1
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from service.contract.manifest import MANIFEST_FILE
from service.errors import ModelRejected, reason_of
from service.limits import Limits, ProbeLimits
from service.models.loading import load_model
from service.models.probe import Outcome, allows

_CPU = "CPUExecutionProvider"
_NICE = 5  # a trial may take its time, answering may not


def _limit_this_process(allowed: ProbeLimits) -> None:
    if sys.platform == "win32":
        return  # no such limits there; the time on the clock still counts
    import resource  # noqa: PLC0415  Unix only

    for what, value, grace in (
        (resource.RLIMIT_AS, allowed.memory_bytes, 0),
        (resource.RLIMIT_CPU, allowed.timeout_s, 1),  # SIGXCPU says why it ends; at the hard limit it is SIGKILL
        (resource.RLIMIT_FSIZE, 0, 0),  # it writes no files
        (resource.RLIMIT_CORE, 0, 0),  # nor its memory
    ):
        _, hard = resource.getrlimit(what)
        soft, most = (v if hard == resource.RLIM_INFINITY else min(v, hard) for v in (value, value + grace))
        with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS
            resource.setrlimit(what, (soft, most))
    os.nice(_NICE)
    with contextlib.suppress(OSError):  # Linux only: where memory runs out altogether, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _judge(directory: Path, limits: Limits, allowed: ProbeLimits) -> Outcome:
    try:
        digest = hashlib.sha256((directory / MANIFEST_FILE).read_bytes()).hexdigest()
        load_model(directory, provider=_CPU, limits=limits, manifest_sha256=digest)
    except ModelRejected as error:
        is_short = any(
            word in str(error).lower() for word in ("alloc", "memory")
        )  # onnxruntime has no error of its own
        return Outcome(reason=f"{error}; {allows(allowed)}" if is_short else str(error))
    except MemoryError:
        return Outcome(reason=f"it does not fit into memory; {allows(allowed)}")
    except Exception as error:  # noqa: BLE001  whatever it is, this version must not go live, and someone wants to know why
        return Outcome(reason=f"it cannot be loaded: {type(error).__name__}: {reason_of(error, limit=300)}")
    return Outcome(manifest_sha256=digest)


def main(argv: Sequence[str]) -> None:
    """Judge the directories on the command line and print an outcome for each."""
    memory_bytes, timeout_s, threads, max_batch, max_pixels = (int(number) for number in argv[:5])
    allowed = ProbeLimits(memory_bytes, timeout_s)
    _limit_this_process(allowed)
    limits = Limits(threads=threads, max_batch=max_batch, max_pixels=max_pixels)
    for directory in argv[5:]:
        outcome = _judge(Path(directory), limits, allowed)
        print(json.dumps(outcome.model_dump()), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
