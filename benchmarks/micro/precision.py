"""Alternatives for running a graph: float32, int8, float16, and bound tensors (IO binding).

    python -m training fit digits --models other export.precision=float32
    python -m benchmarks.micro precision models/digits/5 other/digits/1

The denoise graph of each model directory, per image, in batches of 1, 16 and 64 noisy digits on one thread. float16 is
made from a float32 graph by onnxruntime's own converter. The largest difference is that of the pixels, in [0, 1], from
the last directory's graph as it stands.

bfloat16 is not among them: onnxruntime 1.32 has no kernels of Conv, Gemm and MatMul for it on x86, so such a graph is
refused. A float16 graph is taken, and computed in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.micro.graphs import LIMITS, shipped
from benchmarks.samples import NOISY
from service.images.inspect import ImageFile
from service.tasks.denoise import Denoise

BATCHES = {"batch of 1": 1, "of 16": 16, "of 64": 64}
Array = NDArray[np.float32]


def open_session(graph: bytes) -> ort.InferenceSession:
    """Open a session on one thread, as the service does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def to_float16(graph: bytes) -> bytes:
    """Convert a graph to float16, with float32 inputs and outputs."""
    half: onnx.ModelProto = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    file: bytes = half.SerializeToString()
    return file


def plain(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """Return a plain run, as in the service."""
    return lambda: session.run(["x_hat"], {"x": x})[0]


def bound(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """Return a run that binds input and output every time, as a service with new arrays must."""
    out = np.empty_like(x)

    def run() -> Array:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("x_hat", "cpu", 0, np.float32, out.shape, out.ctypes.data)
        session.run_with_iobinding(binding)
        return out

    return run


def bound_once(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """Return a run with input and output bound once: the most that binding can save."""
    out = np.empty_like(x)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("x_hat", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return out

    return run


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser = parser_of("precision", __doc__)
    parser.add_argument("models", nargs="+", type=Path, help="model directories")
    models: list[Path] = parser.parse_args(words).models
    sessions: dict[str, ort.InferenceSession] = {}
    for model in models:
        task = shipped(model).tasks["denoise"]
        graph, label = (model / task.file).read_bytes(), task.precision
        sessions[label] = open_session(graph)
        if label == "float32":
            sessions["float16"] = open_session(to_float16(graph))
    digit = Denoise(ImageFile.of(NOISY), shipped(models[-1]), LIMITS, None).prepare()
    ways = {"": plain, ", bound": bound, ", bound once": bound_once}
    runs: dict[tuple[str, str], Callable[[], Array]] = {
        (label + way, batch): make(session, np.concatenate([digit] * size))
        for label, session in sessions.items()
        for way, make in ways.items()
        for batch, size in BATCHES.items()
    }
    exact = plain(sessions[label], digit)()

    def difference(row: str, _: Mapping[str, float]) -> str:
        return f"{np.abs(runs[row, 'batch of 1']() - exact).max():.5f}"

    return show(Case("graph, per image", "us", runs, counts=BATCHES, remarks={"difference": difference}))
