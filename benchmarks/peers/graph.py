"""Shared code of the peers: one graph on one thread, with pictures in and PNG files or scores out."""

import io
import json

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


class Graph:
    """An ONNX file from pictures of one size to pictures or to scores, on one thread without spinning.

    Attributes:
        media_type: Media type of the answers.
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (x,), output = self._session.get_inputs(), self._session.get_outputs()[0]
        _, channels, height, width = x.shape
        self._mode, self._size = "L" if channels == 1 else "RGB", (width, height)
        self.media_type = "image/png" if len(output.shape) == 4 else "application/json"

    def decode(self, file: bytes) -> Array:
        """Decode one picture and resize it to the graph's size, (C, H, W), pixels in [0, 1]."""
        with Image.open(io.BytesIO(file)) as image:
            return self.place(image)

    def place(self, image: Image.Image) -> Array:
        """Resize a decoded picture to the graph's size, (C, H, W), pixels in [0, 1]."""
        image = image.convert(self._mode)
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.LANCZOS)
        pixels = np.asarray(image, np.float32) / np.float32(255)
        return np.atleast_3d(pixels).transpose(2, 0, 1)

    def run(self, x: Array) -> Array:
        """Run pictures, (N, C, H, W), as one batch and return clean pictures of this shape, or scores, (N,)."""
        y: Array = self._session.run(None, {"x": x})[0]
        return y

    def encode(self, y: Array) -> bytes:
        """Encode one picture, (1, H, W), as PNG, or one score, (), as JSON."""
        if y.ndim == 0:
            return json.dumps({"score": float(y)}).encode()
        buffer = io.BytesIO()
        pixels = (np.clip(y[0], 0, 1) * 255 + 0.5).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def answer(self, files: list[bytes]) -> list[bytes]:
        """Decode picture files, run them as one batch, and encode the results."""
        return [self.encode(y) for y in self.run(np.stack([self.decode(file) for file in files]))]
