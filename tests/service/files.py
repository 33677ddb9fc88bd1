"""Small image and array files, made in memory."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]  # Any: of whatever dtype a test is about


def save(picture: Image.Image, format_name: str, **options: Any) -> bytes:  # noqa: ANN401  whatever Pillow takes
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def png(values: Array) -> bytes:
    """uint8 (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), or uint16 (H, W)."""
    return save(Image.fromarray(values), "PNG")


def pixels_of(content: bytes) -> Array:
    with Image.open(io.BytesIO(content)) as picture:
        return np.array(picture)


def to_npy(array: Array, **options: Any) -> bytes:  # noqa: ANN401  whatever numpy.save takes
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def from_npy(content: bytes) -> Array:
    array: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return array
