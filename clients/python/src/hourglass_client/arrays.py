"""Conversion between a caller's order of arrays and the service's: (C, H, W), RGB."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # Any: uint8, uint16 or floats
Layout = Literal["chw", "hwc"]
Channels = Literal["rgb", "bgr"]
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class ArrayOrder:
    """The order of axes and of channels in a caller's arrays, sent and answered alike.

    Args:
        layout: "chw": (H, W), (C, H, W) or (N, C, H, W), as in PyTorch. "hwc": (H, W), (H, W, C) or (N, H, W, C), as in
            Pillow, scikit-image and OpenCV.
        channels: "rgb", or "bgr" as in OpenCV. Alpha, a fourth channel, stays last.

    Raises:
        ValueError: The layout or the channels are unknown.
    """

    layout: Layout = "chw"
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        if self.layout not in {"chw", "hwc"}:
            raise ValueError(f"layout {self.layout!r} must be chw or hwc")
        if self.channels not in {"rgb", "bgr"}:
            raise ValueError(f"channels {self.channels!r} must be rgb or bgr")

    def to_service(self, array: Array) -> Array:
        """Convert an array of the caller to (H, W), (C, H, W) or (N, C, H, W), RGB.

        Raises:
            ValueError: The layout is "hwc" and the last axis does not have 1 to 4 channels.
        """
        if array.ndim < 3:
            return array
        if self.layout == "hwc":
            if not 1 <= array.shape[-1] <= _MOST_CHANNELS:
                raise ValueError(
                    f"an array {array.shape} is not (..., H, W, C) with 1 to 4 channels; is its layout chw?"
                )
            array = np.moveaxis(array, -1, -3)
        return self._swapped(array)

    def from_service(self, array: Array) -> Array:
        """Convert a (H, W), (C, H, W) or (N, C, H, W) array of the service to the caller's order."""
        if array.ndim < 3:
            return array
        array = self._swapped(array)
        return np.ascontiguousarray(np.moveaxis(array, -3, -1)) if self.layout == "hwc" else array

    def _swapped(self, array: Array) -> Array:
        count = array.shape[-3]
        if self.channels == "rgb" or count not in {3, 4}:
            return array
        order = [2, 1, 0, 3][:count]
        return array[..., order, :, :]


SERVICE_ORDER = ArrayOrder()
