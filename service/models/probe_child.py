"""Probe model versions in a child process: limit it, load each version, print an outcome. See `models.probe`.

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
from service.models.provider import CPU

_NICE = 5  # probing may be slow, requests may not


def _limit_this_process(allowed: ProbeLimits) -> None:
    if sys.platform == "win32":
        return  # Windows has no such limits; the parent still enforces the time limit
    import resource  # noqa: PLC0415  Unix only

    for what, value, grace in (
        (resource.RLIMIT_AS, allowed.memory_bytes, 0),
        (resource.RLIMIT_CPU, allowed.timeout_s, 1),  # SIGXCPU names the cause; the hard limit sends SIGKILL
        (resource.RLIMIT_FSIZE, 0, 0),  # no files are written
        (resource.RLIMIT_CORE, 0, 0),  # and no core dumps
    ):
        _, hard = resource.getrlimit(what)
        soft, most = (v if hard == resource.RLIM_INFINITY else min(v, hard) for v in (value, value + grace))
        with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS
            resource.setrlimit(what, (soft, most))
    os.nice(_NICE)
    with contextlib.suppress(OSError):  # Linux only: when the machine is out of memory, this process is killed first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _judge(directory: Path, limits: Limits, allowed: ProbeLimits) -> Outcome:
    try:
        digest = hashlib.sha256((directory / MANIFEST_FILE).read_bytes()).hexdigest()
        load_model(directory, provider=CPU, limits=limits, manifest_sha256=digest)
    except ModelRejected as error:
        is_short = any(
            word in str(error).lower() for word in ("alloc", "memory")
        )  # onnxruntime has no error class for it
        return Outcome(reason=f"{error}; {allows(allowed)}" if is_short else str(error))
    except MemoryError:
        return Outcome(reason=f"it does not fit into memory; {allows(allowed)}")
    except Exception as error:  # noqa: BLE001  any error rejects the version, and the reason is reported
        return Outcome(reason=f"it cannot be loaded: {type(error).__name__}: {reason_of(error, limit=300)}")
    return Outcome(manifest_sha256=digest)


def main(argv: Sequence[str]) -> None:
    """Probe the directories on the command line and print the outcome of each."""
    memory_bytes, timeout_s, threads, max_batch, max_pixels = (int(number) for number in argv[:5])
    allowed = ProbeLimits(memory_bytes, timeout_s)
    _limit_this_process(allowed)
    limits = Limits(threads=threads, max_batch=max_batch, max_pixels=max_pixels)
    for directory in argv[5:]:
        outcome = _judge(Path(directory), limits, allowed)
        print(json.dumps(outcome.model_dump()), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
