"""Collections under several workers, and under kill -9: what was acknowledged is there, for everyone."""

import contextlib
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np

from tests.service.files import to_npy
from tests.service.rawclient import Reply, ask
from tests.service.slowmodel import service_process, until
from tests.service.toymodels import LATENT_DIM, publish_toy


def put(port: int, i: int) -> Reply:
    z = np.full(LATENT_DIM, i, np.float32)
    return ask(port, "PUT", f"/collections/c/items/{i}", to_npy(z), {"Content-Type": "application/x-npy"})


def test_every_acknowledged_item_is_there_after_kill_9(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    publish_toy(tmp_path / "models")
    flags = ("--collections-url", f"sqlite:///{tmp_path / 'items.db'}")
    acknowledged: set[int] = set()
    is_over = threading.Event()

    def write(port: int, first: int) -> None:
        for i in range(first, 10**6, 4):
            with contextlib.suppress(OSError):  # the connection of a killed worker
                if put(port, i).status == 201:
                    acknowledged.add(i)
            if is_over.is_set():
                return

    with service_process(tmp_path / "models", *flags, workers=2) as process:
        writers = [threading.Thread(target=write, args=(process.port, first)) for first in range(4)]
        for writer in writers:
            writer.start()
        try:
            until(lambda: len(acknowledged) > 20)
            for pid in [process.popen.pid, *process.pids]:
                os.kill(pid, signal.SIGKILL)
        finally:
            is_over.set()
            for writer in writers:
                writer.join()
    with service_process(tmp_path / "models", *flags) as process:
        found: set[int] = set()
        after: str | None = ""
        while after is not None:
            page = json.loads(ask(process.port, "GET", f"/collections/c/items?limit=1000&after={after}", None, {}).body)
            found |= {int(item["id"]) for item in page["items"]}
            after = page["after"]
        nearest = ask(
            process.port,
            "POST",
            "/collections/c/search?k=1",
            to_npy(np.full(LATENT_DIM, max(acknowledged), np.float32)),
            {"Content-Type": "application/x-npy"},
        )

    assert acknowledged <= found
    assert json.loads(nearest.body)["neighbours"][0]["id"] == str(max(acknowledged))


def test_what_one_worker_has_kept_every_worker_finds(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    publish_toy(tmp_path / "models")
    flags = ("--collections-url", f"sqlite:///{tmp_path / 'items.db'}")

    with service_process(tmp_path / "models", *flags, workers=2) as process:
        for i in range(10):  # each on a connection of its own, so at any of the workers
            assert put(process.port, i).status == 201
            z = to_npy(np.full(LATENT_DIM, i, np.float32))
            for _ in range(3):
                headers = {"Content-Type": "application/x-npy"}
                found = ask(process.port, "POST", "/collections/c/search?k=1", z, headers)
                assert json.loads(found.body)["neighbours"] == [
                    {"id": str(i), "distance": 0.0, "label": None, "metadata": None}
                ]
