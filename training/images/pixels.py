"""Images as they are kept, and as networks see them.

They are kept as bytes 0 ... 255 where those are exact, and otherwise (16 bits, another size) as float32 pixels in
[0, 1].
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Real, UInt8
from numpy.typing import NDArray
from torch import Tensor

Kept = NDArray[np.uint8] | NDArray[np.float32]


def to_pixels(images: Real[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return images as float32 pixels in [0, 1], the very numbers that the service makes of the same file."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images


def to_bytes(images: Real[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Return images as bytes 0 ... 255, rounded: what an ordinary file holds of them."""
    return images if images.dtype == torch.uint8 else images.mul(255.0).round().to(torch.uint8)


def stack(images: Sequence[Kept]) -> Real[Tensor, "image channel height width"]:
    """Return images of one size in one tensor: bytes if all of them are, otherwise pixels."""
    if all(image.dtype == np.uint8 for image in images):
        return torch.from_numpy(np.stack(images))
    return torch.stack([to_pixels(torch.from_numpy(image)) for image in images])
