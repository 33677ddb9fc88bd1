"""Shared code of the peers: a session on one thread, PNG decoding and encoding."""

import io

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image


def open_session(graph: str) -> onnxruntime.InferenceSession:
    """Open a session for one core: one thread, without spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def decode(png: bytes) -> NDArray[np.float32]:
    """Decode one grey image, (1, H, W), pixels in [0, 1]."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("L"), np.float32)[np.newaxis] / np.float32(255)


def encode(x: NDArray[np.float32]) -> bytes:
    """Encode one grey image, (1, H, W), pixels in [0, 1], as PNG."""
    buffer = io.BytesIO()
    pixels = (np.clip(x[0], 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def denoise(session: onnxruntime.InferenceSession, pngs: list[bytes]) -> list[bytes]:
    """Decode PNG files, run them as one batch, and encode the results."""
    (x_hat,) = session.run(None, {"x": np.stack([decode(png) for png in pngs])})
    return [encode(image) for image in x_hat]
