"""The servers of the benchmark: their commands, request bodies, and parsers of answers."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BOUNDARY = "hourglass-benchmark"


@dataclass(frozen=True)
class Files:
    """Files that the servers are started with."""

    graph: Path
    models_dir: Path
    answer: Path  # the right answer, which the floor sends without work


@dataclass(frozen=True)
class Body:
    """A request body and its type."""

    content: bytes
    content_type: str


@dataclass(frozen=True)
class Server:
    """One way to serve the graph."""

    arguments: Callable[[int, Files], list[str]]  # port, files -> what follows `python`
    ask: Callable[[bytes], Body]  # a picture -> the request for it
    answer: Callable[[bytes], bytes] = lambda body: body  # the body of the answer -> a PNG, or a score as JSON
    path: str = "/predict"
    environment: str | None = None  # benchmarks/peers/<environment>.txt; None is the one we run in
    shows: str | None = None  # the package whose version names it
    is_peer: bool = False  # a model server, to be compared with


def form(field: str, *files: bytes) -> Body:
    """Return a multipart form, as browsers send it."""
    parts = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="picture"\r\n'
        f"Content-Type: {_type_of(file)}\r\n\r\n".encode()
        + file
        + b"\r\n"
        for file in files
    )
    return Body(parts + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}")


def raw(file: bytes) -> Body:
    """Return the file as the body."""
    return Body(file, _type_of(file))


def _type_of(file: bytes) -> str:
    return "image/png" if file.startswith(b"\x89PNG") else "image/jpeg"


def _v2(file: bytes) -> Body:
    data = [base64.b64encode(file).decode()]
    parameters = {"content_type": "base64"}
    tensor = {"name": "file", "shape": [1, 1], "datatype": "BYTES", "parameters": parameters, "data": data}
    return Body(json.dumps({"inputs": [tensor]}).encode(), "application/json")


def _service(port: int, files: Files) -> list[str]:
    return ["-m", "service", "--port", str(port), "--models-dir", str(files.models_dir), "--device", "cpu"]


def _module(name: str) -> Callable[[int, Files], list[str]]:
    return lambda port, files: ["-m", f"benchmarks.peers.{name}", str(port), str(files.graph)]


SERVERS = {
    "hourglass": Server(_service, raw, path="/denoise?model=digits"),
    "naive": Server(_module("naive"), lambda file: form("file", file), environment="naive", shows="fastapi"),
    "litserve": Server(_module("litserve"), raw, environment="litserve", shows="litserve", is_peer=True),
    "bentoml": Server(
        lambda port, files: [
            *("-m", "bentoml", "serve", "benchmarks.peers.bentoml:GraphService", "--quiet"),
            *("--host", "127.0.0.1", "--port", str(port), "--arg", f"graph={files.graph}"),
        ],
        lambda file: form("images", file),
        lambda body: base64.b64decode(json.loads(body)[0]),
        environment="bentoml",
        shows="bentoml",
        is_peer=True,
    ),
    "mlserver": Server(
        _module("mlserver"),
        _v2,
        lambda body: base64.b64decode(json.loads(body)["outputs"][0]["data"][0]),
        path="/v2/models/graph/infer",
        environment="mlserver",
        shows="mlserver",
        is_peer=True,
    ),
    "floor": Server(
        lambda port, files: ["-m", "benchmarks.peers.floor", str(port), str(files.answer)],
        raw,
        environment="naive",
        shows="uvicorn",
    ),
}
