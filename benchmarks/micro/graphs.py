"""The graphs that micro benchmarks run, each on one thread: those of published models, and small convolutions."""

import tempfile
from pathlib import Path

import numpy as np
from onnx import helper

from service.contract.manifest import Manifest
from service.limits import InputLimits
from service.models.loading import read_manifest
from service.models.provider import CPU
from service.models.session import Session
from tests.service.toymodels import Axis, make_graph, publish_toy

LIMITS = InputLimits(25_000_000, 256, 256)
WIDTH = 16


def shipped(directory: Path) -> Manifest:
    """Return the manifest of a model directory."""
    return read_manifest(directory.resolve())


def open_graph(directory: Path, task: str) -> Session:
    """Return a task's graph of a model directory, as the service opens it for one thread."""
    graph = next(graph for name, graph in shipped(directory).tasks.items() if name == task)
    return Session((directory / graph.file).read_bytes(), provider=CPU, threads=1)


def convolutions(channels: int) -> tuple[Manifest, Session]:
    """Return a model that denoises by three convolutions of 16 channels with random weights, at any size."""
    random = np.random.default_rng(0)
    plan = [(channels, WIDTH), (WIDTH, WIDTH), (WIDTH, channels)]
    weights = {
        f"w{i}": random.normal(0, 0.1, (out, into, 3, 3)).astype(np.float32) for i, (into, out) in enumerate(plan)
    }
    nodes = []
    for i in range(len(plan)):
        nodes.append(helper.make_node("Conv", [f"h{i}" if i else "x", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        is_last = i + 1 == len(plan)
        nodes.append(
            helper.make_node("Sigmoid" if is_last else "Relu", [f"c{i}"], ["x_hat" if is_last else f"h{i + 1}"])
        )
    image: list[Axis] = ["n", channels, "height", "width"]
    graph = make_graph(nodes, {"x": image}, {"x_hat": image}, weights)
    with tempfile.TemporaryDirectory() as folder:
        manifest = shipped(publish_toy(Path(folder), side=None, channels=channels, graphs={"denoise": graph}))
    return manifest, Session(graph, provider=CPU, threads=1)
