"""An image in memory: the values of the request, and their conversion to the model's pixels and back. Plain NumPy."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # Any: uint8, uint16 or float32; NumPy's types cannot express that without a cast per line
Pixels = NDArray[np.float32]

ValueRange = tuple[float, float]  # the values of black and white

_BLOCK = 1 << 15  # values converted at a time
_ZERO = np.float32(0)
_TOP = {np.uint8: np.float32(255), np.uint16: np.float32(65535)}

# ITU-R BT.601 luma in 1/65536, as Pillow's convert("L") computes it, so training and service see the same grey.
_RED, _GREEN, _BLUE, _HALF, _BITS = 19595, 38470, 7471, 32768, 16


@dataclass(frozen=True)
class Image:
    """One file, or one array of images of the same size.

    Attributes:
        values: Pixels, (N, C, H, W), C is 1 (grey) or 3 (RGB): uint8, uint16, or float32 in [0, 1]. Noise in arrays
            with `own_range` may exceed [0, 1]. A file has N = 1.
        alpha: Opacity, (H, W), uint8; None if all pixels are opaque. Models do not get it, results keep it.
        is_one_bit: Whether the file had one bit per pixel. `values` are 0 and 255 then, and so are those of a result.
        array_rank: Number of axes of the array that was sent, 2, 3 or 4; None for a file.
        media_type: Media type of the file, such as "image/png"; None for formats that are only read.
        icc: Colour profile, if it matches the channels.
        exif: EXIF data without the orientation, which has been applied.
        dpi: Pixels per inch, horizontally and vertically; None if unknown.
        is_channels_last: Whether the array was sent with the channels as its last axis.
        own_range: Black and white of the values that were sent; None for [0, 1] or the full range of an integer type.
    """

    values: Values
    alpha: NDArray[np.uint8] | None = None
    is_one_bit: bool = False
    array_rank: int | None = None
    media_type: str | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    is_channels_last: bool = False
    own_range: ValueRange | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[2], self.values.shape[3]

    @property
    def channels(self) -> int:
        """Number of channels: 1 (grey) or 3 (RGB)."""
        return int(self.values.shape[1])

    @property
    def is_float_file(self) -> bool:
        """Whether the input was a file of floats, so the answer is one, too."""
        return self.array_rank is None and self.values.dtype == np.float32

    def pixels(self, channels: int) -> Pixels:
        """Return the pixels for a model with this many channels: float32 in [0, 1], (N, channels, H, W).

        Colour is converted to grey as integers. The result is divided by 255 or 65535 in float32.
        """
        values = self.values
        if self.channels == 3 and channels == 1:
            values = grey(values)
        if values.dtype != np.float32:
            top = _TOP[values.dtype.type]
            values = np.divide(values, top, out=np.empty(values.shape, np.float32), dtype=np.float32)
        x: Pixels = values
        return in_every_channel(x, channels) if x.shape[1] < channels else np.ascontiguousarray(x, np.float32)

    def with_pixels(self, x_hat: Pixels) -> "Image":
        """Return this image with new pixels; channels, depth, alpha and array rank stay the same.

        Args:
            x_hat: New pixels, (N, C, H, W), C is 1 or 3. Values outside [0, 1] are clipped.
        """
        if x_hat.shape[1] > self.channels:
            x_hat = grey(np.clip(x_hat, 0.0, 1.0))
        values = self.to_depth(x_hat)
        if values.shape[1] < self.channels:
            values = in_every_channel(values, self.channels)
        return replace(self, values=values)

    def to_depth(self, x: Pixels) -> Values:
        """Convert pixels to the dtype of this image, clipped to [0, 1]."""
        if self.is_one_bit:
            return np.where(x >= 0.5, np.uint8(255), np.uint8(0))
        if self.values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)} and self.array_rank is None:
            return to_levels(x, self.values.dtype.type)
        return np.clip(x, 0.0, 1.0)  # an array is answered by an array of floats, whatever its dtype was


def to_levels(x: Pixels, dtype: type[np.uint8] | type[np.uint16]) -> Values:
    """Convert pixels in [0, 1] to integers from 0 to the maximum of `dtype`, rounded and clipped."""
    if x.size <= _BLOCK:
        return _round(x, dtype)
    levels = np.empty(x.shape, dtype)
    flat_x, flat_levels = x.reshape(-1), levels.reshape(-1)
    for start in range(0, x.size, _BLOCK):  # blocks that fit into the processor's cache
        flat_levels[start : start + _BLOCK] = _round(flat_x[start : start + _BLOCK], dtype)
    return levels


def _round(x: Pixels, dtype: type[np.uint8] | type[np.uint16]) -> Values:
    top = _TOP[dtype]
    levels = x * top
    np.rint(levels, out=levels)
    np.minimum(levels, top, out=levels)
    np.maximum(levels, _ZERO, out=levels)
    rounded: Values = levels.astype(dtype)
    return rounded


def to_8_bit(values: Values) -> NDArray[np.uint8]:
    """Convert values to 8 bits, rounded: an array may be answered by an image file."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    is_float = values.dtype == np.float32
    return to_levels(values if is_float else values.astype(np.float32) / np.float32(65535), np.uint8)


def grey(values: Values) -> Values:
    """Convert colour (N, 3, H, W) to luma (N, 1, H, W) of the same dtype: integers, or floats in [0, 1]."""
    luma: Values
    if values.dtype == np.float32:
        weights = np.array([_RED, _GREEN, _BLUE], np.float32) / np.float32(1 << _BITS)
        luma = np.einsum("nchw,c->nhw", values, weights)[:, None].astype(np.float32)
    else:
        red, green, blue = (values[:, i : i + 1].astype(np.uint32) for i in range(3))
        luma = ((red * _RED + green * _GREEN + blue * _BLUE + _HALF) >> _BITS).astype(values.dtype)
    return luma


def in_every_channel(grey_values: Values, channels: int) -> Values:
    """Copy grey images (N, 1, H, W) to all channels. `np.repeat` would hold the GIL meanwhile."""
    count, _, height, width = grey_values.shape
    return np.ascontiguousarray(np.broadcast_to(grey_values, (count, channels, height, width)))


def as_sent(image: Image) -> NDArray[np.float32]:
    """Convert float pixels to the axes and range of the request's array; to (C, H, W) for a file."""
    axes_added = {None: 1, 2: 2, 3: 1, 4: 0}[image.array_rank]
    values: NDArray[np.float32] = in_own_range(image.values.reshape(image.values.shape[axes_added:]), image)
    return np.ascontiguousarray(np.moveaxis(values, -3, -1)) if image.is_channels_last else values


def in_own_range(values: NDArray[np.float32], image: Image) -> NDArray[np.float32]:
    """Scale pixels in [0, 1] to the black and white of the input."""
    if image.own_range is None:
        return values
    black, white = image.own_range
    return (values * (white - black) + black).astype(np.float32)
