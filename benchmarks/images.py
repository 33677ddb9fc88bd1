"""The path around a model for larger images: total CPU time of a request's work beside what nobody can avoid.

    python -m benchmarks.images

A small convolutional network (three layers of 16 channels, random weights) denoises a 256x256 and a 12-megapixel PNG.
"Unavoidable" is onnxruntime's own time on the same pixels, plus decoding and encoding the same PNG by the fastest codec
of those installed: ours, Pillow, and OpenCV and pyspng where they are there. "Service" is all that a request does in
the worker thread: guards, decoding, running, checking, encoding.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from PIL import Image as PillowImage

from benchmarks.codecs import by_pillow, cpu_seconds, picture
from service.images.png import write_png
from service.limits import InputLimits
from service.models.loading import read_manifest
from service.models.session import Session
from service.tasks.denoise import Denoise
from tests.service.toymodels import make_graph, publish_toy

WIDTH = 16
SIDES = (256, 3464)


def network(channels: int) -> bytes:
    """Three convolutions from x to x_hat, at any size."""
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
    image = ["n", channels, "height", "width"]
    return make_graph(nodes, {"x": image}, {"x_hat": image}, weights)


def decoders() -> dict[str, Callable[[bytes], object]]:
    """What this machine can read a PNG with."""
    found: dict[str, Callable[[bytes], object]] = {
        "Pillow": lambda file: np.asarray(PillowImage.open(io.BytesIO(file)).convert("RGB"))
    }
    try:
        import pyspng  # noqa: PLC0415

        found["pyspng"] = pyspng.load
    except ImportError:
        pass
    try:
        import cv2  # noqa: PLC0415

        found["OpenCV"] = lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except ImportError:
        pass
    return found


def encoders() -> dict[str, Callable[[NDArray[np.uint8]], object]]:
    """What this machine can write a PNG with."""
    found: dict[str, Callable[[NDArray[np.uint8]], object]] = {"ours": write_png, "Pillow": by_pillow}
    try:
        import cv2  # noqa: PLC0415

        level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        found["OpenCV"] = lambda planes: cv2.imencode(".png", np.moveaxis(planes, 0, 2), level)
    except ImportError:
        pass
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    graph = network(3)
    with tempfile.TemporaryDirectory() as folder:
        manifest = read_manifest(publish_toy(Path(folder), side=None, channels=3, graphs={"denoise": graph}))
    session = Session(graph, provider="CPUExecutionProvider", threads=1)
    for side in SIDES:
        planes = picture(side, 3)
        file, x = by_pillow(planes), (planes[None] / np.float32(255)).astype(np.float32)
        job = Denoise(file, manifest, InputLimits(25_000_000, 256, 256), None)

        def service(job: Denoise = job) -> object:
            return job.finish(session.run(job.prepare()))

        parts: dict[str, Callable[[], object]] = {"service": service, "run": lambda x=x: session.run(x)}
        parts |= {f"decode {name}": lambda f=f, file=file: f(file) for name, f in decoders().items()}
        parts |= {f"encode {name}": lambda f=f, planes=planes: f(planes) for name, f in encoders().items()}
        seconds = cpu_seconds(parts, max(1, 300_000 // planes.size))
        decode, encode = (
            min((name for name in seconds if name.startswith(verb)), key=seconds.__getitem__)
            for verb in ("decode", "encode")
        )
        floor = seconds["run"] + seconds[decode] + seconds[encode]
        print(
            f"{side}x{side}: service {seconds['service'] * 1e3:.1f} ms; unavoidable {floor * 1e3:.1f} ms "
            f"(run {seconds['run'] * 1e3:.1f}, {decode} {seconds[decode] * 1e3:.1f}, {encode} "
            f"{seconds[encode] * 1e3:.1f}); ratio {seconds['service'] / floor:.2f}"
        )


if __name__ == "__main__":
    main()
