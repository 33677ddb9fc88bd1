"""Bytes as networks see them."""

from jaxtyping import Float, UInt8
from torch import Tensor


def to_pixels(images: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0 ... 255 as float32 pixels in [0, 1], the very numbers that the service makes of the same image."""
    return images.float().div_(255.0)
