"""How soon the service is ready, and how much memory a worker holds.

    python -m benchmarks.start
    python -m benchmarks.start --rounds 9

Each round starts the service over the shipped models and asks /health/ready until it says 200; then, for comparison,
starts a bare Python that imports the libraries the service is made of and ends. The table has medians. Memory is that
of the worker process, resident, once it is ready and again after a thousand requests.
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.environment import ROOT
from benchmarks.peers.process import free_port

LIBRARIES = "import fastapi, numpy, onnxruntime, PIL.Image, pydantic, uvicorn"
DIGIT = (ROOT / "tests" / "data" / "digit_noisy.png").read_bytes()
REQUESTS = 1000
MIB = 2**20


def answer_of(port: int, method: str, path: str, body: bytes | None = None) -> int:
    """The status of one request; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def resident_bytes(pid: int) -> int:
    """Of one process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def one_start() -> tuple[float, int, int]:
    """Seconds to ready, and resident bytes then and after the requests."""
    port = free_port()
    command = [sys.executable, "-m", "service", "--port", str(port), "--models-dir", str(ROOT / "models")]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            while answer_of(port, "GET", "/health/ready") != 200:
                time.sleep(0.005)
            seconds, before = time.perf_counter() - started, resident_bytes(process.pid)
            for _ in range(REQUESTS):
                assert answer_of(port, "POST", "/denoise?model=digits", DIGIT) == 200
            return seconds, before, resident_bytes(process.pid)
        finally:
            process.terminate()


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="starts (default 5)")
    rounds = parser.parse_args().rounds
    starts, bare = [], []
    for _ in range(rounds):
        starts.append(one_start())
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
        bare.append(time.perf_counter() - began)
    seconds, before, after = (statistics.median(values) for values in zip(*starts, strict=True))
    print(
        f"ready after {seconds:.2f} s, importing the libraries alone takes {statistics.median(bare):.2f} s; "
        f"resident memory {before / MIB:.0f} MiB, after {REQUESTS} requests {after / MIB:.0f} MiB"
    )


if __name__ == "__main__":
    main()
