"""The layout of values in a request: their range, and the order of an array's axes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidArray, InvalidParameter, shown
from service.images.image import ValueRange

DataRange = float | Literal["auto"]

_FURTHEST = 1.0  # in ranges: noise goes this far beyond black or white, values in another unit go further


@dataclass(frozen=True, slots=True)
class Form:
    """The layout of arrays and float files, as declared by the request.

    Attributes:
        data_range: The value of white, with black at 0; "auto" for the minimum and maximum of the values; None for
            floats in [0, 1] and the full range of an integer type.
        is_channels_last: Arrays are (H, W, C) or (N, H, W, C).
    """

    data_range: DataRange | None = None
    is_channels_last: bool = False

    def refuse_for(self, kind: str, *, has_floats: bool = False) -> None:
        """Raise an error for parameters that do not apply to an image file.

        Args:
            kind: Format of the file, such as "PNG".
            has_floats: Whether the file holds floats, which may have any range.

        Raises:
            InvalidParameter: The layout or range does not apply to this format.
        """
        if self.is_channels_last:
            raise InvalidParameter(f"layout=hwc is for NPY arrays, and the file is a {kind}; leave it out")
        if self.data_range is not None and not has_floats:
            raise InvalidParameter(
                f"data_range is for NPY arrays and TIFF files of floats, and the file is a {kind} of integers, whose "
                "range is fixed; leave it out"
            )


PLAIN = Form()


def to_unit_range(values: NDArray[Any], data_range: DataRange | None) -> tuple[NDArray[np.float32], ValueRange | None]:
    """Scale values to [0, 1]; also return their black and white, or None if nothing was scaled.

    Noise may exceed black and white; it is not clipped.

    Args:
        values: Array of any shape and numeric type.
        data_range: See `Form`.

    Raises:
        InvalidArray: A value is not finite, or far outside the range.
    """
    low, high = float(values.min()), float(values.max())  # NaN if any value is NaN
    if not np.isfinite([low, high]).all():
        raise InvalidArray("the array has values with NaN or infinity; replace them first: np.nan_to_num(x)")
    if data_range is None:
        if not (low >= 0.0 and high <= 1.0):
            raise InvalidArray(
                f"the array has values from {low} to {high}; pixels are in [0, 1]: divide by 255, send uint8, or give "
                "the value of white: data_range=255, or data_range=auto"
            )
        return values.astype(np.float32, copy=False), None
    black, white = (low, high) if data_range == "auto" else (0.0, data_range)
    span = white - black
    if not span:  # flat
        white, span = black + 1.0, 1.0
    if not np.isfinite(span) or low < black - _FURTHEST * span or high > white + _FURTHEST * span:
        raise InvalidArray(
            f"the array has values from {low} to {high}, which do not fit data_range={shown(data_range)}: give the "
            "value of white where black is 0, or data_range=auto"
        )
    x = np.subtract(values, black, dtype=np.float64) if values.dtype.itemsize > 2 else values.astype(np.float32) - black
    return np.divide(x, span).astype(np.float32), (black, white)
