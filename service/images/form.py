"""How values are laid out in what was sent: their range, and the order of an array's axes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidArray, InvalidParameter, shown
from service.images.image import ValueRange

DataRange = float | Literal["auto"]

_FURTHEST = 1.0  # ranges beyond black or white: noise reaches that far, another unit further


@dataclass(frozen=True, slots=True)
class Form:
    """The layout of arrays and float files, as declared by the request.

    Attributes:
        data_range: White, where black is 0; "auto" takes the smallest and the largest value. None: floats are in
            [0, 1], and integers span their type.
        is_channels_last: Arrays are (H, W, C) or (N, H, W, C).
    """

    data_range: DataRange | None = None
    is_channels_last: bool = False

    def refuse_for(self, kind: str, *, has_floats: bool = False) -> None:
        """Raise an error for parameters that do not apply to an image file.

        Args:
            kind: Format of the file, such as "PNG".
            has_floats: It holds floats, which may have any range.

        Raises:
            InvalidParameter: There is something.
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
    """Scale values to [0, 1]. Also return the original black and white, None if nothing was scaled.

    Noise may lie beyond black and white, and is not clipped.

    Args:
        values: Of any shape and number type.
        data_range: As of `Form`.

    Raises:
        InvalidArray: Values are not finite, or do not fit the range.
    """
    low, high = float(values.min()), float(values.max())  # NaN if there is one anywhere
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
