"""The EXIF orientation of a picture, applied to its values."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from service.images.image import Image, Values

# EXIF orientation -> how to turn (..., H, W) upright; 1 and unknown values change nothing
_UPRIGHT: dict[object, Callable[[Values], Values]] = {
    2: lambda values: values[..., ::-1],
    3: lambda values: values[..., ::-1, ::-1],
    4: lambda values: values[..., ::-1, :],
    5: lambda values: values.swapaxes(-1, -2),
    6: lambda values: np.rot90(values, -1, (-2, -1)),
    7: lambda values: values[..., ::-1, ::-1].swapaxes(-1, -2),
    8: lambda values: np.rot90(values, 1, (-2, -1)),
}


def turn_upright(image: Image, orientation: object) -> Image:
    """Turn an image by its EXIF orientation. Its values are a view; Pillow would hold a second picture."""
    turn = _UPRIGHT.get(orientation)
    if turn is None:
        return image
    alpha = None if image.alpha is None else turn(image.alpha)
    return replace(image, values=turn(image.values), alpha=alpha)
