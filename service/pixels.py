"""An image in memory: the values as they were sent, and their way to the model's pixels and back. Plain NumPy."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # Any: uint8, uint16 or float32, which NumPy's types cannot say without a cast per line
Pixels = NDArray[np.float32]

# ITU-R BT.601 luma in 1/65536, as Pillow's convert("L") computes it, so training and service see the same grey.
_RED, _GREEN, _BLUE, _HALF, _BITS = 19595, 38470, 7471, 32768, 16


@dataclass(frozen=True)
class Image:
    """One file, or one array of equally large images.

    Attributes:
        values: (N, C, H, W), C is 1 (grey) or 3 (RGB): uint8, uint16, or float32 in [0, 1]. A file has N = 1.
        alpha: (H, W), uint8; None where everything is opaque. Models never see it, results get it back.
        is_one_bit: The file had one bit per pixel; `values` are 0 and 255, and so are those of a result.
        array_rank: 2, 3 or 4 if it came as an array of that many axes; None for a file.
    """

    values: Values
    alpha: NDArray[np.uint8] | None = None
    is_one_bit: bool = False
    array_rank: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[2], self.values.shape[3]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.values.shape[1])

    def pixels(self, channels: int) -> Pixels:
        """What a model with that many channels gets: float32 in [0, 1], (N, channels, H, W).

        Integers are divided by 255 or 65535 in float32, after colour became grey in integers.
        """
        values = self.values
        if self.channels == 3 and channels == 1:
            values = _grey(values)
        if values.dtype != np.float32:
            values = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
        x: Pixels = values
        return np.repeat(x, channels, axis=1) if x.shape[1] < channels else np.ascontiguousarray(x, np.float32)

    def with_pixels(self, x_hat: Pixels) -> "Image":
        """A result of the same channels and depth; alpha, one-bit and array rank stay.

        Args:
            x_hat: (N, C, H, W), C is 1 or 3. Values outside [0, 1] are clipped.
        """
        x_hat = np.clip(x_hat, 0.0, 1.0)
        if x_hat.shape[1] < self.channels:
            x_hat = np.repeat(x_hat, self.channels, axis=1)
        elif x_hat.shape[1] > self.channels:
            x_hat = _grey(x_hat)
        return replace(self, values=self._to_depth(x_hat))

    def _to_depth(self, x: Pixels) -> Values:
        levels: Values = x  # an array in is an array out: float, whatever it came as
        if self.is_one_bit:
            levels = np.where(x >= 0.5, np.uint8(255), np.uint8(0))
        elif self.values.dtype == np.uint16:
            levels = np.rint(x * np.float32(65535)).astype(np.uint16)
        elif self.values.dtype == np.uint8 and self.array_rank is None:
            levels = np.rint(x * np.float32(255)).astype(np.uint8)
        return levels


def to_8_bit(values: Values) -> NDArray[np.uint8]:
    """The values as an ordinary file holds them, rounded; for array results that are asked for as an image."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    scale = np.float32(255.0 if values.dtype == np.float32 else 255.0 / 65535.0)
    rounded: NDArray[np.uint8] = np.rint(np.clip(values.astype(np.float32) * scale, 0, 255)).astype(np.uint8)
    return rounded


def _grey(values: Values) -> Values:
    grey: Values
    if values.dtype == np.float32:
        weights = np.array([_RED, _GREEN, _BLUE], np.float32) / np.float32(1 << _BITS)
        grey = np.einsum("nchw,c->nhw", values, weights)[:, None].astype(np.float32)
    else:
        red, green, blue = (values[:, i : i + 1].astype(np.uint32) for i in range(3))
        grey = ((red * _RED + green * _GREEN + blue * _BLUE + _HALF) >> _BITS).astype(values.dtype)
    return grey
