"""A model whose cost is the size of the image, and a service process over it: to have work that really takes long."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import NodeProto, helper

from service.settings import PREFIX
from tests.service.files import png
from tests.service.rawclient import get
from tests.service.toymodels import Axis, make_graph, publish_toy

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180.0  # far more than a busy machine needs; only a failing test waits so long


def publish_slow(models_dir: Path, *, sines: int = 100, copies: int = 1) -> None:
    """`slow`: halves every pixel, after `sines` sines of `copies` of every pixel: some 0.5 s for a million pixels."""
    image: list[Axis] = ["n", 1, "height", "width"]
    nodes: list[NodeProto] = [helper.make_node("Concat", ["x"] * copies, ["copied"], axis=1)]
    nodes += [helper.make_node("Sin", ["copied" if i == 0 else f"s{i - 1}"], [f"s{i}"]) for i in range(sines)]
    nodes += [
        helper.make_node("ReduceMax", [f"s{sines - 1}"], ["most"], axes=[1]),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Mul", ["x", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "nothing"], ["x_hat"]),
    ]
    constants = {"zero": np.array(0.0, np.float32), "half": np.array(0.5, np.float32)}
    graph = make_graph(nodes, {"x": image}, {"x_hat": image}, constants)
    publish_toy(models_dir, name="slow", side=None, graphs={"denoise": graph})


def flat_png(side: int, level: int = 100) -> bytes:
    """A grey image of one value; `slow` and the toys answer half of it."""
    return png(np.full((side, side), level, np.uint8))


@dataclass
class Process:
    """A running service. `lines` is its log so far."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """Of the processes that said that they serve, oldest first."""
        return [int(found[1]) for line in self.lines if (found := re.search(r"process (\d+) running on", line))]

    @property
    def port(self) -> int:
        return next(int(found[1]) for line in self.lines if (found := re.search(r"running on http://\S+:(\d+)", line)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for_servers(self, count: int) -> None:
        """Until `count` processes have said that they serve."""
        until(lambda: len(self.pids) >= count or self.popen.poll() is not None, START_TIMEOUT_S)
        assert len(self.pids) >= count, "".join(self.lines)
        answers = 0
        while answers < (1 if count == 1 else 4 * count):  # any of them may answer, and still be loading
            answers = 0 if b"still being loaded" in get(self.port, "/health/ready").body else answers + 1

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=START_TIMEOUT_S)


@contextlib.contextmanager
def service_process(
    models_dir: Path, *flags: str, workers: int = 1, cwd: Path = ROOT, path: Path | None = None
) -> Iterator[Process]:
    """`python -m service` on a free port, ready; killed at the end if it still runs.

    Args:
        models_dir: What it serves.
        flags: Of its command line.
        workers: Processes that answer.
        cwd: Where it runs.
        path: Where the packages are that it runs; those of this folder if left out.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    command: Sequence[str] = (
        *(sys.executable, "-m", "service", "--port", "0", "--models-dir", str(models_dir)),
        *("--collections-url", f"sqlite:///{models_dir.absolute()}-collections/items.db"),
        *("--workers", str(workers), "--device", "cpu", *flags),
    )
    with default_signals():
        popen = subprocess.Popen(command, cwd=cwd, env=environ, stderr=subprocess.PIPE, text=True)
    process = Process(popen)

    def read() -> None:
        assert popen.stderr
        for line in popen.stderr:
            process.lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process.wait_for_servers(workers)
        yield process
    finally:
        popen.kill()
        popen.wait()
        for pid in process.pids:  # workers of a killed parent
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reader.join()
        assert popen.stderr
        popen.stderr.close()


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """A child started inside gets signals as from a terminal, even if these tests run under nohup or behind a `&`."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def until(condition: Callable[[], object], timeout_s: float = START_TIMEOUT_S) -> None:
    """Returns as soon as `condition()` holds.

    Raises:
        AssertionError: It does not hold after `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"still not so after {timeout_s:g} s"
        time.sleep(0.02)
