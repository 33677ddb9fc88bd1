"""The service with the published models, in a child process on a free port."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import torch
from torch import Tensor

from training.errors import RunError

START_S = 180.0
NPY, JSON = "application/x-npy", "application/json"


class Server:
    """A client of the running service."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def offers(self, model: str, *tasks: str) -> bool:
        """Return whether a model is live and has these tasks."""
        live = {entry["name"]: entry["tasks"] for entry in self._http.get("/models").json()}
        return set(tasks) <= set(live.get(model, ()))

    def post(self, path: str, body: bytes, *, kind: str, accept: str, **query: str | int) -> bytes:
        """Post a body and return the body of the answer.

        Raises:
            RunError: The service answers with an error; the message has its text.
        """
        answer = self._http.post(path, params=query, content=body, headers={"Content-Type": kind, "Accept": accept})
        if answer.status_code != 200:
            raise RunError(f"POST {path} {query}: {answer.status_code} {answer.text[:300]}")
        return answer.content

    def images(self, path: str, x: Tensor, **query: str | int) -> Tensor:
        """Send images (N, C, H, W) to an endpoint and return its output, a row per image."""
        return from_npy(self.post(path, to_npy(x), kind=NPY, accept=NPY, **query))

    def verdicts(self, x: Tensor, **query: str | int) -> list[dict[str, Any]]:
        """Return the answer of `/anomaly` for each image, with `score` and `is_anomalous`."""
        answer = json.loads(self.post("/anomaly", to_npy(x), kind=NPY, accept=JSON, **query))
        results: list[dict[str, Any]] = answer["results"]
        return results

    def keep(self, collection: str, item: str, x: Tensor, **query: str) -> None:
        """Put one image (1, C, H, W) into a collection.

        Raises:
            RunError: As `post`.
        """
        path = f"/collections/{collection}/items/{item}"
        answer = self._http.put(path, params=query, content=to_npy(x), headers={"Content-Type": NPY})
        if not answer.is_success:
            raise RunError(f"PUT {path} {query}: {answer.status_code} {answer.text[:300]}")

    def classes(self, collection: str, x: Tensor, **query: str | int) -> list[str]:
        """Classify images (N, C, H, W) by a collection and return their labels."""
        answer = self.post(f"/collections/{collection}/classify", to_npy(x), kind=NPY, accept=JSON, **query)
        return [result["label"] for result in json.loads(answer)["results"]]

    def generate(self, model: str, **body: str | int) -> Tensor:
        """Generate new images, (count, C, H, W)."""
        content = self.post("/generate", json.dumps(body).encode(), kind=JSON, accept=NPY, model=model)
        return from_npy(content)


@contextmanager
def serve(models: Path) -> Iterator[Server]:
    """Run the service for the block.

    Raises:
        RunError: The service does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as collections:
        settings = {
            "PORT": str(port), "MODELS_DIR": str(models.resolve()), "DEVICE": "cpu", "REQUEST_TIMEOUT_S": "300",
            "COLLECTIONS_URL": f"sqlite:///{collections}/items.db",
        }  # fmt: skip
        others = {name: value for name, value in os.environ.items() if not name.startswith("HOURGLASS_")}
        environment = others | {f"HOURGLASS_{name}": value for name, value in settings.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300.0) as http:
                _wait(http, process)
                yield Server(http)
        finally:
            process.terminate()
            process.wait(30)


def _wait(http: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if http.get("/health/ready").is_success:
                return
        except httpx.TransportError:  # it does not listen yet
            pass
        time.sleep(0.1)
    raise RunError(f"the service did not get ready in {START_S:.0f} s; `python -m service` says why")


def to_npy(x: Tensor) -> bytes:
    """Serialise a tensor as NPY."""
    file = BytesIO()
    np.save(file, x.contiguous().numpy())
    return file.getvalue()


def from_npy(content: bytes) -> Tensor:
    """Parse an NPY file as a tensor."""
    return torch.from_numpy(np.load(BytesIO(content), allow_pickle=False))
