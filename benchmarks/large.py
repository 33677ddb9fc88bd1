"""Large photographs: how memory and CPU time grow with the megapixels of one request to /denoise.

    python -m benchmarks.large
    python -m benchmarks.large --megapixels 4 25 100
    python -m benchmarks.large --megapixels 1 --at-once 16 --max-batch-pixels 16777216

A service of one worker with the shipped `photo-grey`, anew for every size; a grey PNG goes in and comes out. Peak
memory is the most that the process ever held (VmHWM), beside what it held before the request. "Pixels" is what the
image itself takes: its bytes as they came, as pixels in and as pixels out; of several sent at once, all of them.
`--max-batch-pixels` is the service's setting: how much of several pictures goes through the network together.
"""

import argparse
import http.client
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from benchmarks.codecs import picture
from benchmarks.endpoints import wait_until_ready
from benchmarks.peers.environment import ROOT
from benchmarks.peers.process import free_port
from service.images.png import write_png

TIMEOUT_S = 1800


def status(pid: int, name: str) -> float:
    """A line of /proc/PID/status in MiB (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one(megapixels: int, at_once: int, max_batch_pixels: int) -> tuple[float, float, float, float]:
    """Memory before and at its peak, MiB of the images and their files, and CPU seconds."""
    side = int((megapixels * 1e6) ** 0.5)
    file = write_png(picture(side, 1))
    port = free_port()
    limits = (
        "--max-pixels",
        str(max(25_000_000, side * side)),
        "--max-body-bytes",
        str(len(file)),
        "--request-timeout-s",
        str(TIMEOUT_S),
        "--max-batch-pixels",
        str(max_batch_pixels),
    )
    command = [sys.executable, "-m", "service", "--port", str(port), "--models-dir", str(ROOT / "models"), *limits]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(port)
            before, started = status(process.pid, "VmRSS"), cpu_s(process.pid)
            with ThreadPoolExecutor(at_once) as pool:
                answers = list(pool.map(lambda _: ask(port, file), range(at_once)))
            pixels = sum(len(file) + len(content) + 2 * side * side for content in answers) / 2**20
            return before, status(process.pid, "VmHWM"), pixels, cpu_s(process.pid) - started
        finally:
            process.terminate()


def ask(port: int, file: bytes) -> bytes:
    """The answer to a picture."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.request("POST", "/denoise?model=photo-grey&sigma=15", file, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(content[:500])
    return content


def main() -> None:
    """Prints a line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=int, nargs="+", default=[1, 4, 16, 25], help="sizes (default 1 4 16 25)")
    parser.add_argument("--at-once", type=int, default=1, help="pictures sent at the same time (default 1)")
    parser.add_argument("--max-batch-pixels", type=int, default=2**20, help="the service's setting (default 1048576)")
    options = parser.parse_args()
    print("megapixels  before MiB  peak MiB  pixels MiB  the rest MiB  CPU s  CPU s per megapixel")
    for megapixels in tqdm(options.megapixels, leave=False):
        before, peak, pixels, seconds = one(megapixels, options.at_once, options.max_batch_pixels)
        rest = peak - before - pixels
        tqdm.write(
            f"{megapixels:10} {before:11.0f} {peak:9.0f} {pixels:11.0f} {rest:13.0f} {seconds:6.1f} "
            f"{seconds / megapixels / options.at_once:20.2f}"
        )


if __name__ == "__main__":
    main()
