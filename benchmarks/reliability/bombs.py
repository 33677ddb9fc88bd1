"""Sends requests that are small as bytes and large as work, and looks what they cost.

    python -m benchmarks.reliability bombs
    python -m benchmarks.reliability bombs form tensor

Each kind gets a service of its own with the shipped models. A row has the answer, the most memory meanwhile above that
of an idle worker, the longest wait of another client for /health/live, the CPU time that it took, and how much of that
came after the answer. The words after the command choose kinds by a part of their name.
"""

import argparse
import http.client
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.service import Service

MIB = 2**20
JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream"}
QUIET_S, QUIET_CPU_S = 2.0, 0.2  # so long with so little CPU time: it is over
TICKS = os.sysconf("SC_CLK_TCK")


def flat_png(width: int, height: int, channels: int) -> bytes:
    """Return a black picture, made without holding it."""
    line, deflate = bytes(1 + width * channels), zlib.compressobj(9)
    data = b"".join([*(deflate.compress(line) for _ in range(height)), deflate.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (head, data, b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def form(file: bytes, count: int) -> tuple[bytes, dict[str, str]]:
    """Return the same file in many fields."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n' % file
    return part * count + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def tensor(data: bytes, shape: Sequence[int]) -> bytes:
    """Return a request of the Open Inference Protocol."""
    shown = json.dumps(list(shape)).encode()
    return b'{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":%s}]}' % (shown, data)


# name -> path, body, headers
KINDS: dict[str, Callable[[], tuple[str, bytes, dict[str, str]]]] = {
    "string among numbers": lambda: (
        "/v2/models/digits.denoise/infer",
        tensor(b'["' + b"a" * 100_000 + b'"' + b",0" * 10_000 + b"]", (1, 1, 28, 28)),
        JSON,
    ),
    "tensor of two megapixels": lambda: (
        "/v2/models/photo-x2.enhance/infer",
        tensor(b"[" + b"0," * 1_999_999 + b"0]", (1, 1, 2000, 1000)),
        JSON,
    ),
    "32 MiB of lists": lambda: ("/generate?model=digits", b"[" + b"[]," * (32 * MIB // 3) + b"[]]", JSON),
    "4 MiB of lists": lambda: ("/decode?model=digits", b"[" + b"[]," * (4 * MIB // 3 - 2) + b"[]]", JSON),
    "form of 64 large pictures": lambda: ("/denoise?model=digits", *form(flat_png(5000, 5000, 1), 64)),
    "one large picture": lambda: ("/denoise?model=digits", flat_png(5000, 5000, 3), RAW),
    "large picture, answered as an array": lambda: (
        "/denoise?model=digits",
        flat_png(5000, 5000, 3),
        RAW | {"Accept": "application/x-npy"},
    ),
    "JPEG of tiny segments": lambda: ("/denoise?model=digits", b"\xff\xd8" + b"\xff\xfe\0\2" * (4 * MIB), RAW),
    "thorough photograph": lambda: ("/denoise?model=photo&thorough=true", flat_png(5000, 5000, 3), RAW),
}


@dataclass
class Watch:
    """What a service does while a request is under way."""

    port: int
    pid: int
    peak_bytes: int = 0
    stall_s: float = 0.0
    _is_over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._threads = [threading.Thread(target=work) for work in (self._health, self._memory)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _health(self) -> None:
        while not self._is_over.is_set():
            started = time.perf_counter()
            ask(self.port, "GET", "/health/live", None, {})
            self.stall_s = max(self.stall_s, time.perf_counter() - started)
            time.sleep(0.02)

    def _memory(self) -> None:
        while not self._is_over.is_set():
            self.peak_bytes = max(self.peak_bytes, memory_bytes(self.pid))
            time.sleep(0.01)


def memory_bytes(pid: int) -> int:
    """Of a process, now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Of a process, since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def ask(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return status and body of one answer, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def row_of(name: str) -> str:
    """Send one kind to a service and describe what it did."""
    path, body, headers = KINDS[name]()
    with TemporaryDirectory() as folder, Service("--collections-url", f"sqlite:///{folder}/items.db") as service:
        pid = service.process.popen.pid
        idle_bytes, before_s = memory_bytes(pid), cpu_s(pid)
        with Watch(service.port, pid) as watch:
            status, answer = ask(service.port, "POST", path, body, headers)
            answered_s = cpu_s(pid) - before_s
            last, quiet_since = cpu_s(pid), time.perf_counter()
            while time.perf_counter() - quiet_since < QUIET_S:
                time.sleep(0.1)
                if (now := cpu_s(pid)) - last > QUIET_CPU_S:
                    last, quiet_since = now, time.perf_counter()
        after_s = cpu_s(pid) - before_s - answered_s
        code = json.loads(answer).get("code", "v2") if status >= 400 else f"{len(answer) / MIB:.1f} MiB"
    return (
        f"| {name} | {len(body) / 1024:.0f} KiB | {status} {code} | {(watch.peak_bytes - idle_bytes) / MIB:.0f} MiB | "
        f"{watch.stall_s * 1000:.0f} ms | {answered_s:.1f} s | {after_s:.1f} s |"
    )


def measure(words: Sequence[str]) -> str:
    """Return the table of all kinds, or of those that are named."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability bombs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", help="parts of the names of kinds")
    parts = parser.parse_args(words).parts
    rows = [row_of(name) for name in KINDS if not parts or any(part in name for part in parts)]
    head = "| kind | body | answer | memory | longest stall | CPU until the answer | CPU after it |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- | --- |", *rows])
