"""CPU time of a request for larger images, compared with the unavoidable work.

    python -m benchmarks.micro images

A small convolutional network (three layers of 16 channels, random weights) denoises a 256x256 and a 12-megapixel PNG.
"Unavoidable" is onnxruntime's time on the same pixels, plus decoding and encoding the same PNG by the fastest installed
codec: ours, Pillow, and OpenCV and pyspng if installed. "Service" is all work of a request in the worker thread:
checks, decoding, running, encoding.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from PIL import Image

from benchmarks.micro.case import Case, parser_of, show
from benchmarks.micro.graphs import LIMITS, convolutions
from benchmarks.optional import optional
from benchmarks.samples import Planes, picture, png_by_pillow
from service.images.inspect import ImageFile
from service.images.png import write_png
from service.tasks.denoise import Denoise

SIDES = (256, 3464)


def measure(words: Sequence[str]) -> str:
    """Measure and lay out the table."""
    parser_of("images", __doc__).parse_args(words)
    manifest, session = convolutions(3)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for side in SIDES:
        planes, row = picture(side, 3), f"{side}x{side}"
        file, x = png_by_pillow(planes), (planes[None] / np.float32(255)).astype(np.float32)
        job = Denoise(ImageFile.of(file), manifest, LIMITS, None)
        runs[row, "service"] = lambda job=job: job.finish(session.run(job.prepare()))  # type: ignore[misc]  # bound now
        runs[row, "run"] = partial(session.run, x)
        runs |= {(row, f"decode, {name}"): partial(decode, file) for name, decode in decoders().items()}
        runs |= {(row, f"encode, {name}"): partial(encode, planes) for name, encode in encoders().items()}
    return show(Case("image", "ms", runs, remarks={"unavoidable": _unavoidable, "ratio": _ratio}))


def decoders() -> dict[str, Callable[[bytes], object]]:
    """Return the installed PNG decoders by name."""
    found: dict[str, Callable[[bytes], object]] = {
        "Pillow": lambda file: np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    }
    if pyspng := optional("pyspng"):
        found["pyspng"] = pyspng.load
    if cv2 := optional("cv2"):
        found["OpenCV"] = lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    return found


def encoders() -> dict[str, Callable[[Planes], object]]:
    """Return the installed PNG encoders by name."""
    found: dict[str, Callable[[Planes], object]] = {"ours": write_png, "Pillow": png_by_pillow}
    if cv2 := optional("cv2"):
        level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        found["OpenCV"] = lambda planes: cv2.imencode(".png", np.moveaxis(planes, 0, 2), level)
    return found


def floor_s(seconds: Mapping[str, float]) -> float:
    """Return the time of the inference plus the fastest decoder and encoder."""
    fastest = [min(s for name, s in seconds.items() if name.startswith(verb)) for verb in ("decode", "encode")]
    return seconds["run"] + sum(fastest)


def _unavoidable(_: str, seconds: Mapping[str, float]) -> str:
    return f"{floor_s(seconds) * 1e3:.1f}"


def _ratio(_: str, seconds: Mapping[str, float]) -> str:
    return f"{seconds['service'] / floor_s(seconds):.2f}"
