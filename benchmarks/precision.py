"""Ways to run one graph that we tried: float32, int8, float16, and with the tensors bound beforehand (IO binding).

    python -m training fit digits --models other export.precision=float32
    python -m benchmarks.precision models/digits/5 other/digits/1

The denoise graph of each model directory, per image, in batches of 1, 16 and 64 noisy digits on one thread; the best of
several rounds in which all take turns. float16 is made from a float32 graph by onnxruntime's own converter. The
largest difference is that of the pixels, in [0, 1], from the last directory's graph as it stands.

bfloat16 is not among them: onnxruntime 1.32 has no kernels of Conv, Gemm and MatMul for it on x86, so such a graph is
refused. A float16 graph is taken, and computed in float32.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.codecs import cpu_seconds
from benchmarks.stages import BATCHES, LIMITS, NOISY
from service.models.loading import read_manifest
from service.tasks.denoise import Denoise

REPEATS = 10
Array = NDArray[np.float32]


def open_session(graph: bytes) -> ort.InferenceSession:
    """On one thread, as the service has it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def to_float16(graph: bytes) -> bytes:
    """The same graph computing in float16, with float32 in and out."""
    half: onnx.ModelProto = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    return half.SerializeToString()


def plain(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """As the service runs it."""
    return lambda: session.run(["x_hat"], {"x": x})[0]


def bound(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """Input and output bound for every run, as a service must, whose arrays are new each time."""
    out = np.empty_like(x)

    def run() -> Array:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("x_hat", "cpu", 0, np.float32, out.shape, out.ctypes.data)
        session.run_with_iobinding(binding)
        return out

    return run


def bound_once(session: ort.InferenceSession, x: Array) -> Callable[[], Array]:
    """Input and output bound once: what binding can save at most."""
    out = np.empty_like(x)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("x_hat", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return out

    return run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model directories")
    models: list[Path] = parser.parse_args().models
    sessions: dict[str, ort.InferenceSession] = {}
    for model in models:
        manifest = read_manifest(model.resolve())
        graph, label = (model / manifest.tasks["denoise"].file).read_bytes(), manifest.tasks["denoise"].precision
        sessions[label] = open_session(graph)
        if label == "float32":
            sessions["float16"] = open_session(to_float16(graph))
    digit = Denoise(NOISY, manifest, LIMITS, None).prepare()
    ways = {"": plain, ", bound": bound, ", bound once": bound_once}
    runs = {
        (label + way, size): make(session, np.concatenate([digit] * size))
        for label, session in sessions.items()
        for way, make in ways.items()
        for size in BATCHES
    }
    exact = plain(sessions[label], digit)()
    seconds = cpu_seconds(runs, REPEATS)
    print(f"{'us per image, batch of':24}" + "".join(f"{size:>10}" for size in BATCHES) + f"{'difference':>14}")
    for name in dict.fromkeys(name for name, _ in runs):
        figures = "".join(f"{seconds[name, size] / size * 1e6:10.1f}" for size in BATCHES)
        print(f"{name:24}{figures}{np.abs(runs[name, 1]() - exact).max():14.5f}")


if __name__ == "__main__":
    main()
