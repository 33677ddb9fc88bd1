"""Closed-loop load by wrk: a fixed request, repeated on several connections."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BenchmarkError

# wrk runs this; `done` prints one line of JSON after wrk's own report. Latencies are in microseconds.
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = %(content_type)s
local file = io.open(%(body_file)s, "rb")
wrk.body = file:read("*all")
file:close()
function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\\n{"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "not_2xx": %%d, "broken": %%d}\\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        e.status, e.connect + e.read + e.write + e.timeout))
end
"""


class LoadError(BenchmarkError):
    """Some answers were not 2xx, or never came; the message says how many."""


@dataclass(frozen=True)
class Load:
    """Results of wrk."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Request:
    """A POST, kept in files for wrk."""

    url: str
    script: Path


def write_request(folder: Path, *, name: str, url: str, content_type: str, body: bytes) -> Request:
    """Write the files that wrk needs to send `body` into `folder`."""
    body_file, script = folder / f"{name}.body", folder / f"{name}.lua"
    body_file.write_bytes(body)
    script.write_text(_SCRIPT % {"content_type": json.dumps(content_type), "body_file": json.dumps(str(body_file))})
    return Request(url, script)


def load(request: Request, *, clients: int, seconds: int, cores: Sequence[int]) -> Load:
    """Send a request repeatedly from `clients` connections for some seconds.

    Raises:
        LoadError: An answer was not 2xx or did not come.
    """
    threads = min(len(cores), clients)
    command = ["taskset", "--cpu-list", ",".join(map(str, cores)), "wrk"]
    command += [f"-t{threads}", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(request.script)]
    finished = subprocess.run([*command, request.url], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise LoadError(f"wrk ended with {finished.returncode}: {finished.stderr.strip() or finished.stdout.strip()}")
    said = json.loads(finished.stdout.splitlines()[-1])
    if said["not_2xx"] or said["broken"] or not said["requests"]:
        raise LoadError(
            f"{said['requests']} answers from {request.url} to {clients} clients: "
            f"{said['not_2xx']} were not 2xx, {said['broken']} connections broke"
        )
    per_second = said["requests"] / said["duration_us"] * 1e6
    return Load(said["requests"], per_second, said["p50_us"] / 1000, said["p99_us"] / 1000)
