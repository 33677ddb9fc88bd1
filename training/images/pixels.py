"""Conversion between stored images and the inputs of networks.

Images are stored as bytes 0 ... 255 if that is exact, and otherwise (16 bits, resized) as float32 pixels in [0, 1].
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Real, UInt8
from numpy.typing import NDArray
from torch import Tensor

Kept = NDArray[np.uint8] | NDArray[np.float32]


def to_pixels(images: Real[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert images to float32 pixels in [0, 1], with exactly the values that the service computes."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images


def to_bytes(images: Real[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Convert images to bytes 0 ... 255, rounded, as in an 8-bit file."""
    return images if images.dtype == torch.uint8 else images.mul(255.0).round().to(torch.uint8)


def stack(images: Sequence[Kept]) -> Real[Tensor, "image channel height width"]:
    """Stack images of one size into one tensor: bytes if all of them are bytes, otherwise pixels."""
    if all(image.dtype == np.uint8 for image in images):
        return torch.from_numpy(np.stack(images))
    return torch.stack([to_pixels(torch.from_numpy(image)) for image in images])
