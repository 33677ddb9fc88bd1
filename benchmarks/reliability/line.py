"""Writes parts into a folder that `hourglass watch` watches, and times each verdict.

    python -m benchmarks.reliability line
    python -m benchmarks.reliability line --parts 1000 --every-s 0.1

Each part is a picture of a real nut, 256x256 pixels as PNG, written in place like a camera's and closed. The time runs
from closing the file until `hourglass watch` prints the line with its verdict. The time of sequential single requests
is shown for comparison. PASS means: every part was reported, and 99 of 100 within 150 ms.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.machine import ROOT
from benchmarks.reliability.load import verdict
from benchmarks.reliability.watch import ask
from benchmarks.service import Service

MODEL = "hazelnut"
SIDE = 256
BAR_S = 0.150
CLIENT = ROOT / "clients" / "python" / "src"
_LOST_S = 30.0  # a verdict that is not there by then is lost


def parts(count: int) -> Iterator[bytes]:
    """Yield different pictures of a nut as PNG files, (256, 256, 3)."""
    rng = np.random.default_rng(0)
    nut = np.asarray(Image.open(ROOT / "tests" / "data" / "hazelnut.jpg").convert("RGB").resize((SIDE, SIDE)))
    for _ in range(count):
        file = io.BytesIO()
        moved = np.roll(nut, tuple(rng.integers(-8, 9, 2)), (0, 1))
        Image.fromarray(moved).save(file, "PNG", compress_level=1)
        yield file.getvalue()


def told_s(url: str, count: int, every_s: float) -> list[float]:
    """Return the seconds from closing each file to the line with its verdict, one part every `every_s` seconds."""
    files = list(parts(count))
    with tempfile.TemporaryDirectory(prefix="hourglass-line-") as folder:
        command = [sys.executable, "-m", "hourglass_client", "--url", url, "watch", folder, "--model", MODEL, "--lines"]
        environ = os.environ | {"PYTHONPATH": f"{CLIENT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as watch:
            assert watch.stdout is not None
            os.set_blocking(watch.stdout.fileno(), False)
            closed: dict[str, float] = {}
            told = Told(watch.stdout)
            try:
                for i, content in enumerate(tqdm([files[0], *files], desc="parts", leave=False)):
                    name = f"{i:05}.png"
                    (Path(folder) / name).write_bytes(content)
                    closed[name] = time.perf_counter()
                    wait_s = _LOST_S if i == 0 else every_s  # the first shows that it watches, and is not counted
                    told.listen(until=closed[name] + wait_s, enough=1 if i == 0 else None)
                told.listen(until=time.perf_counter() + _LOST_S, enough=len(closed))
            finally:
                watch.terminate()
    return [told.time_by_name[name] - closed[name] for name in list(closed)[1:] if name in told.time_by_name]


class Told:
    """When the line of each part was printed.

    Args:
        lines: Standard output of `hourglass watch`, which does not block.
    """

    def __init__(self, lines: IO[bytes]) -> None:
        self.time_by_name: dict[str, float] = {}
        self._lines, self._rest = lines, b""

    def listen(self, *, until: float, enough: int | None) -> None:
        """Record the time of each line, until a deadline or until there are enough."""
        while (now := time.perf_counter()) < until and (enough is None or len(self.time_by_name) < enough):
            *lines, self._rest = (self._rest + (self._lines.read() or b"")).split(b"\n")  # a line may come in pieces
            for line in lines:
                self.time_by_name[line.split(b"\t")[1].decode()] = now
            time.sleep(0.001)


def asked_s(port: int, count: int) -> list[float]:
    """Return the seconds of each of `count` sequential requests."""
    times = []
    for content in parts(count):
        started = time.perf_counter()
        ask(port, "POST", f"/anomaly?model={MODEL}", content, {"Content-Type": "image/png"})
        times.append(time.perf_counter() - started)
    return times


def measure(words: Sequence[str]) -> str:
    """Return the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability line",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", type=int, default=300, metavar="N", help="parts to send (default 300)")
    parser.add_argument("--every-s", type=float, default=0.25, metavar="S", help="seconds between two (default 0.25)")
    options = parser.parse_args(words)
    with Service() as service:
        alone = asked_s(service.port, 100)
        told = told_s(f"http://127.0.0.1:{service.port}", options.parts, options.every_s)
    figures = "; ".join(
        f"{name} p50 {np.quantile(times, 0.5) * 1000:.0f} ms, p99 {np.quantile(times, 0.99) * 1000:.0f} ms"
        for name, times in (
            ("request alone", alone),
            (f"file closed to verdict, {len(told)} parts of {SIDE}x{SIDE},", told),
        )
    )
    checks = {"every part": len(told) == options.parts, "p99": float(np.quantile(told, 0.99)) <= BAR_S}
    return verdict("line", checks, figures)
