"""Parts and photographs: the service and other servers compared with a bare loop over the same graph, in turns."""

import base64
import contextlib
import io
import json
import math
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.commands import BenchmarkError
from benchmarks.http.visits import two_cores
from benchmarks.machine import ROOT
from benchmarks.page import table
from benchmarks.peers.catalogue import SERVERS, Files, raw
from benchmarks.peers.environment import environment_python, pinned
from benchmarks.peers.subject import Started, started
from benchmarks.samples import picture
from benchmarks.service import MODELS, Service, newest
from benchmarks.serving.closed_loop import ask_again

OURS = "hourglass"
ENGINES = ("onnxruntime", "openvino")  # of bare loops; other names are servers
SIGMA = 15
SAME_SCORE = 0.01  # of it
SAME_PIXELS = 0.5  # of 255, on average: decoders of JPEG may round either way


@dataclass(frozen=True)
class Work:
    """A request, with the parameters of the bare loop for the same work.

    Attributes:
        title: Title in tables.
        path: Path of the request.
        file: Picture file.
        graph: Graph of the model.
        size: Input size of the graph, HEIGHTxWIDTH, or "any".
        answer: "score" or "png".
        is_resized: Whether the file differs in size from the graph.
    """

    title: str
    path: str
    file: bytes
    graph: Path
    size: str
    answer: str
    is_resized: bool = False


@dataclass(frozen=True)
class Visit:
    """Results of one visit; a bare loop has no latencies."""

    per_second: float
    cpu_ms: float
    latencies_ms: tuple[float, ...] = ()


class Bare:
    """A running bare loop.

    Attributes:
        codecs: Names of its codecs.
        answer: Its answer to the picture.
    """

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self._popen = popen
        said: dict[str, str] = json.loads(self._read())
        self.codecs, self.answer = said["codecs"], base64.b64decode(said["answer"])

    def visit(self, seconds: float) -> Visit:
        """Run the loop for some seconds and return the results."""
        assert self._popen.stdin is not None  # a pipe
        print(seconds, file=self._popen.stdin, flush=True)
        found: dict[str, float] = json.loads(self._read())
        return Visit(found["images"] / found["wall_s"], found["cpu_s"] / found["images"] * 1e3)

    def _read(self) -> str:
        assert self._popen.stdout is not None  # a pipe
        if said := self._popen.stdout.readline():
            return said
        raise BenchmarkError(f"a bare loop ended: {self._popen.communicate()[1]}")


def measure_parts(names: Sequence[str], clients: Sequence[int], *, rounds: int, seconds: int) -> str:
    """Measure /anomaly with a hazelnut, as files of several sizes."""
    path, graph = "/anomaly?model=hazelnut", newest("hazelnut") / "anomaly.onnx"
    work = [
        Work(f"{kind} {width}x{height}", path, hazelnut(width, height, kind), graph, "256x256", "score",
             (width, height) != (256, 256))
        for kind, width, height in (("JPEG", 256, 256), ("PNG", 256, 256), ("JPEG", 512, 512), ("JPEG", 1024, 768))
    ]  # fmt: skip
    version = newest("hazelnut").name
    about = (
        f"`hazelnut` version {version}: tests/data/hazelnut.jpg, enlarged to each size; the graph has 256x256 pixels."
    )
    return f"{about}\n\n{compare(work, names, clients, rounds=rounds, seconds=seconds)}"


def measure_photos(names: Sequence[str], clients: Sequence[int], *, rounds: int, seconds: int) -> str:
    """Measure /denoise with a synthetic picture with a photograph's statistics, PNG out."""
    path, graph = f"/denoise?model=photo&sigma={SIGMA}", newest("photo") / "denoise.onnx"
    work = [
        Work(f"{kind} {side}x{side}", path, made(side, kind), graph, "any", "png")
        for kind, side in (("JPEG", 512), ("PNG", 512), ("JPEG", 1024))
    ]
    about = f"`photo` version {newest('photo').name}: smooth shapes with noise, PNG out."
    return f"{about}\n\n{compare(work, names, clients, rounds=rounds, seconds=seconds)}"


def compare(work: Sequence[Work], names: Sequence[str], clients: Sequence[int], *, rounds: int, seconds: int) -> str:
    """Visit the servers and the bare loops in turns, and return a table of medians."""
    client_core, server_core = two_cores()
    os.sched_setaffinity(0, client_core)  # this process is the clients
    engines, servers = [name for name in names if name in ENGINES], [name for name in names if name not in ENGINES]
    python = environment_python("bare")
    visits: dict[tuple[str, str, int], list[Visit]] = {}
    codecs: dict[str, str] = {}  # title -> what the loops read and write with
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(cores=server_core))
        turns = len(work) * rounds * (len(engines) + len(servers) * len(clients))
        bar = stack.enter_context(tqdm(total=turns, unit="visit", leave=False))
        for one in work:
            with contextlib.ExitStack() as others:
                bare = {name: others.enter_context(running(python, name, one, server_core)) for name in engines}
                codecs[one.title] = ", ".join({loop.codecs: "" for loop in bare.values()})
                ours = asked_once(service, one)
                http = {
                    name: ours if name == OURS else others.enter_context(paused(name, one, server_core))
                    for name in servers
                }
                for name, other in (bare | http).items():
                    check(ours.answer, other.answer, f"{one.title}, {name}", is_resized=one.is_resized)
                for _ in range(rounds):
                    for name, loop in bare.items():
                        bar.set_description(f"{one.title}, {name}")
                        visits.setdefault((one.title, name, 1), []).append(loop.visit(seconds))
                        bar.update()
                    for name, server in http.items():
                        for count in clients:
                            bar.set_description(f"{one.title}, {name}, {count} client(s)")
                            visits.setdefault((one.title, name, count), []).append(asked(server, count, seconds))
                            bar.update()
    used = "; ".join(f"{title}: {names}" for title, names in codecs.items())
    pins = pinned("bare")
    versions = ", ".join(f"{name} {pins[name]}" for name in (*engines, "opencv-python-headless", "simplejpeg"))
    versions += "".join(f", {name} {pinned(name)[name]}" for name in servers if name != OURS)
    return f"{laid_out(visits, engines)}\n\nThe fastest codecs, to read and to write: {used}. {versions}."


def check(ours: bytes, theirs: bytes, what: str, *, is_resized: bool) -> None:
    """Compare two answers: pixels of PNG files, or scores unless both have resized the picture differently.

    Raises:
        BenchmarkError: The answers differ.
    """
    if theirs.startswith(b"{"):
        score, other = json.loads(ours)["score"], json.loads(theirs)["score"]
        if not is_resized and not math.isclose(score, other, rel_tol=SAME_SCORE):
            raise BenchmarkError(f"{what}: the service says {score}, the bare loop {other}")
        return
    x, y = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float64) for file in (ours, theirs))
    difference = np.abs(x - y).mean() if x.shape == y.shape else math.inf
    if difference > SAME_PIXELS:
        raise BenchmarkError(f"{what}: {x.shape} and {y.shape}, {difference:.2f} of 255 apart on average")


def asked_once(service: Service, work: Work) -> Started:
    """Ask the service, which may be paused, for the work and return it with its answer."""
    service.process.resume()
    body = raw(work.file)
    answer = service.ask(work.path, body.content, body.content_type)
    return Started(service.process, service.port, work.path, body, answer)


@contextlib.contextmanager
def paused(name: str, work: Work, cores: Sequence[int]) -> Iterator[Started]:
    """Start a model server with the graph of the work for the block, and pause it until it is asked."""
    server = SERVERS[name]
    assert server.environment is not None  # every model server has one
    python, files = str(environment_python(server.environment)), Files(work.graph, MODELS, Path(os.devnull))
    with started(name, server, python, files, picture=work.file, cores=cores) as one:
        one.process.pause()
        yield one


def asked(server: Started, clients: int, seconds: int) -> Visit:
    """Visit a server, which may be paused, and return the results."""
    process, body = server.process, server.body
    process.resume()
    before_s = process.cpu_s
    found = ask_again(server.port, server.path, body.content, body.content_type, clients=clients, seconds=seconds)
    images = len(found.latencies_s)
    cpu_ms = (process.cpu_s - before_s) / images * 1e3
    process.pause()
    return Visit(images / found.wall_s, cpu_ms, tuple(1e3 * latency for latency in found.latencies_s))


def laid_out(visits: dict[tuple[str, str, int], list[Visit]], engines: Sequence[str]) -> str:
    """Return a table with a row per picture and server; ratios to an engine above 1 mean faster or less CPU time."""
    rows = []
    for (title, name, clients), seen in visits.items():
        per_second, cpu_ms = (statistics.median(getattr(v, field) for v in seen) for field in ("per_second", "cpu_ms"))
        latencies = sorted(ms for visit in seen for ms in visit.latencies_ms)
        tail = [f"{latencies[int(share * len(latencies))]:.0f}" if latencies else "" for share in (0.5, 0.99)]
        shares = []
        for engine in engines:
            beside = visits[title, engine, 1]
            if name in engines:
                shares += ["", ""]
                continue
            shares += [
                f"{statistics.median(a.per_second / b.per_second for a, b in zip(seen, beside, strict=True)):.2f}",
                f"{statistics.median(b.cpu_ms for b in beside) / cpu_ms:.2f}",
            ]
        label = f"bare {name}" if name in engines else f"{name}, {clients} client(s)"
        rows.append([title, label, f"{per_second:.1f}", f"{cpu_ms:.1f}", *tail, *shares])
    heads = [head for engine in engines for head in (f"x bare {engine}", "by CPU")]
    return table(["picture", "", "images/s", "CPU ms", "p50, ms", "p99, ms", *heads], rows)


@contextlib.contextmanager
def running(python: Path, engine: str, work: Work, cores: Sequence[int]) -> Iterator[Bare]:
    """Run a bare loop on some cores for the block."""
    with TemporaryDirectory(prefix="hourglass-bench-") as folder:
        (file := Path(folder) / "picture").write_bytes(work.file)
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), str(python), "-m", "benchmarks.peers.bare"]
        popen = subprocess.Popen(
            [*command, engine, str(work.graph), work.size, work.answer, str(file)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Bare(popen)
        finally:
            popen.kill()
            popen.communicate()


def hazelnut(width: int, height: int, kind: str) -> bytes:
    """Return a picture of a real hazelnut at another size."""
    with Image.open(ROOT / "tests" / "data" / "hazelnut.jpg") as image:
        return _file(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), kind)


def made(side: int, kind: str) -> bytes:
    """Return a synthetic colour picture."""
    return _file(Image.fromarray(picture(side, 3).transpose(1, 2, 0)), kind)


def _file(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return file.getvalue()
