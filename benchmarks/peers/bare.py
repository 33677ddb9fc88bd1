"""A bare loop over a graph, without HTTP: `python -m benchmarks.peers.bare ENGINE GRAPH SIZE ANSWER FILE`.

It runs the fastest installed codec that reads FILE, a resize if the graph has another size, the graph on one thread,
and writes the answer as JSON (`score`) or with the fastest PNG encoder (`png`). ENGINE is onnxruntime or openvino, SIZE
is that of the graph, HEIGHTxWIDTH, or "any". The first line of output is JSON with its codecs and its answer. For every
line on standard input, a number of seconds, it loops for that time and prints a line of JSON: images, wall_s, cpu_s.
"""

import base64
import io
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import orjson
import pyspng
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3)
Array = NDArray[np.float32]
TRIALS = 5
SIGMA = 15.0  # of 255, where the graph denoises


def decoders(file: bytes) -> dict[str, Callable[[], Pixels]]:
    """Return the installed decoders of this file by name."""
    found: dict[str, Callable[[], Pixels]] = {
        "Pillow": lambda: np.asarray(Image.open(io.BytesIO(file)).convert("RGB")),
        "OpenCV": lambda: cv2.cvtColor(
            cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        ),
    }
    if file.startswith(b"\x89PNG"):
        found["pyspng"] = lambda: pyspng.load(file)
    else:
        found["simplejpeg"] = lambda: simplejpeg.decode_jpeg(file)
    return found


def encoders() -> dict[str, Callable[[Pixels], bytes]]:
    """Return the installed PNG encoders by name; the last is the service's."""
    from service.images.png import write_png  # noqa: PLC0415  it needs no more than NumPy and isal

    def pillow(pixels: Pixels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def opencv(pixels: Pixels) -> bytes:
        level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), level)[1])

    return {"Pillow": pillow, "OpenCV": opencv, "ours": lambda pixels: write_png(np.moveaxis(pixels, 2, 0))}


def fastest(ways: dict[str, Callable[[], object]]) -> str:
    """Return the name of the function with the least CPU time, the best of some trials."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(TRIALS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - started)
    return min(best, key=best.__getitem__)


def opened(engine: str, graph: str) -> Callable[[dict[str, Array]], list[Array]]:
    """Open the graph on one thread and return a function that runs it."""
    if engine == "openvino":
        import openvino  # noqa: PLC0415  half a second

        core = openvino.Core()
        # It would take bfloat16 by itself where the processor has it.
        settings = {"INFERENCE_NUM_THREADS": "1", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda inputs: list(request.infer(inputs, share_inputs=True).values())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def main(engine: str, graph: str, size: str, answer: str, path: str) -> None:
    """Print a first line with codecs and answer, then loop for every line on standard input."""
    file = Path(path).read_bytes()
    ways = decoders(file)
    reader = fastest(dict(ways))
    decode, run = ways[reader], opened(engine, graph)
    pixels = decode()
    writers = encoders()
    writer = fastest({name: partial(write, pixels) for name, write in writers.items()})
    encode = writers[writer]

    height, width = (0, 0) if size == "any" else map(int, size.split("x"))

    def once() -> bytes:
        picture = decode()
        if size != "any" and picture.shape[:2] != (height, width):
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
        x = np.ascontiguousarray(np.moveaxis(picture, 2, 0)[None], np.float32) / np.float32(255)
        if answer == "score":
            return orjson.dumps({"score": float(run({"x": x})[0][0])})
        (x_hat,) = run({"x": x, "sigma": np.full(1, SIGMA, np.float32)})
        out = (np.clip(x_hat[0], 0, 1) * 255 + 0.5).astype(np.uint8)
        return encode(np.ascontiguousarray(np.moveaxis(out, 0, 2)))

    first = base64.b64encode(once()).decode()
    writes = writer if answer == "png" else "orjson"
    print(json.dumps({"codecs": f"{reader} and {writes}", "answer": first}), flush=True)
    for line in sys.stdin:
        end, images = time.perf_counter() + float(line), 0
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        while time.perf_counter() < end or not images:
            once()
            images += 1
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        print(json.dumps({"images": images, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
