"""Run exported graphs with onnxruntime, and compare their outputs with those of their networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.contract.manifest import Parity
from training.errors import ExportError

PARITY_TOLERANCE = 1e-4  # float32 sums in another order; the shipped models differ by about 1e-6
# Scores in standard deviations of good images: of pictures with hardly any contrast these are near what float32 rounds.
ANOMALY_PARITY_TOLERANCE = 1e-3
PARITY_BATCHES = (1, 3, 16)

Array = NDArray[np.float32]


def run_graph(path: Path, *inputs: Array) -> list[Array]:
    """Return every output of the graph at `path`, in order, computed by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = dict(zip((tensor.name for tensor in session.get_inputs()), inputs, strict=True))
    return [np.asarray(y, np.float32) for y in session.run(None, feed)]


def served(graph: Path | bytes) -> Callable[[Tensor], Tensor]:
    """Return a function of tensors that runs a graph, a file or its content, and returns its first output."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(np.asarray(session.run(None, {name: x.numpy()})[0], np.float32))


def measure_parity(path: Path, network: nn.Module, *examples: Tensor, tolerance: float = PARITY_TOLERANCE) -> Parity:
    """Measure the largest difference between onnxruntime and PyTorch, on real and random inputs in several batch sizes.

    Raises:
        ExportError: The difference is above the tolerance, relative to values above 1.
    """
    worst = 0.0
    for batch in PARITY_BATCHES:
        real = [x[:batch] for x in examples]
        generator = torch.Generator().manual_seed(batch)
        random = [torch.rand(x.shape, generator=generator) for x in real]
        worst = float(
            np.max([worst, *(largest_difference(path, network, *x) for x in (real, random))])
        )  # NaN stays NaN
        if not worst <= tolerance:
            raise ExportError(
                f"{path.name}: onnxruntime and PyTorch differ by {worst:.2e} at batch {batch}, "
                f"more than {tolerance:.0e}"
            )
    return Parity(max_abs_diff=worst, tolerance=tolerance)


@torch.no_grad()
def largest_difference(path: Path, network: nn.Module, *inputs: Tensor) -> float:
    """Measure the largest difference of one batch, relative to values above 1."""
    answer = network(*inputs)
    expected = answer if isinstance(answer, tuple) else (answer,)
    differences = [
        np.max(np.abs(y.numpy() - y_onnx) / np.maximum(1.0, np.abs(y.numpy())))
        for y, y_onnx in zip(expected, run_graph(path, *(x.numpy() for x in inputs)), strict=True)
    ]
    return float(np.max(differences))
