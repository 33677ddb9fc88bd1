"""A server under test: started, checked for the right picture, then loaded by wrk."""

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.client import AnswerError, post
from benchmarks.commands import BenchmarkError
from benchmarks.peers.catalogue import Body, Files, Server
from benchmarks.peers.wrk import Request, load, write_request
from benchmarks.process import Process, free_port, running

START_TIMEOUT_S = 90.0  # the slowest peer needs some 10 s on a busy core
# wrk leaves while answers are on their way. A server that is paused with them in hand would take the pause for its own
# slowness, and BentoML would learn to wait from it.
DRAIN_S = 0.5
TOLERANCE = 1  # of 255: a pixel may be rounded either way


class ServingError(BenchmarkError):
    """A server does not start, or answers wrongly; the message includes its output."""


@dataclass(frozen=True)
class Visit:
    """Results of one run of wrk, and the resources of the server."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server and all its processes, per request


@dataclass(frozen=True)
class Subject:
    """A checked server, paused between visits."""

    process: Process
    request: Request

    def visit(self, *, clients: int, seconds: int, cores: Sequence[int]) -> Visit:
        """Load the server by wrk on `cores`.

        Raises:
            LoadError: An answer was not 2xx or did not come.
        """
        self.process.resume()
        try:
            before_s = self.process.cpu_s
            seen = load(self.request, clients=clients, seconds=seconds, cores=cores)
            used_s = self.process.cpu_s - before_s
            time.sleep(DRAIN_S)
        finally:
            self.process.pause()
        return Visit(seen.per_second, seen.p50_ms, seen.p99_ms, used_s / seen.requests * 1e6)


@dataclass(frozen=True)
class Started:
    """A server that has answered once.

    Attributes:
        process: Its process, with all children.
        port: Port on 127.0.0.1.
        path: Path of the request.
        body: Body of the request.
        answer: Its first answer, a PNG file or a score as JSON.
    """

    process: Process
    port: int
    path: str
    body: Body
    answer: bytes


@contextlib.contextmanager
def started(
    name: str, server: Server, python: str, files: Files, *, picture: bytes, cores: Sequence[int]
) -> Iterator[Started]:
    """Start a server for the block, once it answers `picture`.

    Raises:
        ServingError: The server does not start.
    """
    port, body = free_port(), server.ask(picture)
    with running(name, [python, *server.arguments(port, files)], cores=cores) as process:
        answer = server.answer(_first_answer(name, process, port, server.path, body))
        yield Started(process, port, server.path, body, answer)


@contextlib.contextmanager
def serving(
    name: str, server: Server, python: str, files: Files, *, png: bytes, expected: bytes, cores: Sequence[int]
) -> Iterator[Subject]:
    """Start a server for the block, once it answers `png` with the picture `expected`, and pause it between visits.

    Raises:
        ServingError: The server does not start, or answers something else.
    """
    with started(name, server, python, files, picture=png, cores=cores) as one:
        _compare(name, one.answer, expected)
        url = f"http://127.0.0.1:{one.port}{one.path}"
        request = write_request(
            files.answer.parent, name=name, url=url, content_type=one.body.content_type, body=one.body.content
        )
        one.process.pause()
        yield Subject(one.process, request)


def _first_answer(name: str, process: Process, port: int, path: str, body: Body) -> bytes:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return post(port, path, body.content, body.content_type)
        except (OSError, AnswerError) as error:  # it may be loading still
            if process.popen.poll() is not None or time.monotonic() > end:
                raise ServingError(f"{name} does not serve: {error}\n{process.last_words()}") from error
        time.sleep(0.2)


def _compare(name: str, png: bytes, expected: bytes) -> None:
    mine, right = (np.asarray(Image.open(io.BytesIO(file)).convert("L"), np.int16) for file in (png, expected))
    if mine.shape != right.shape or np.abs(mine - right).max() > TOLERANCE:
        raise ServingError(f"{name} answers another picture than the graph does")
