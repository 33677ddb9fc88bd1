"""Colour as files of /compress have it: a plane of luma, and two of chroma of half its size. Plain NumPy.

Full-range BT.601 and means of 2x2 pixels, as in JPEG. It belongs to the file format: a reader must put the
planes together in this way.
"""

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (H, W)
Pixels = NDArray[np.float32]

# Rows are Y, Cb, Cr.
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
FROM_YCC = np.linalg.inv(TO_YCC.astype(np.float64)).astype(np.float32)
_MIDDLE = np.float32(0.5)  # chroma without colour
_NEAR, _FAR = np.float32(0.75), np.float32(0.25)


def to_planes(x: Pixels) -> list[Plane]:
    """Convert an image (C, H, W) to its planes, in [0, 1].

    One of grey, or luma and chroma with sides halved and rounded up.
    """
    if len(x) == 1:
        return [x[0]]
    luma, *chroma = np.tensordot(TO_YCC, x, axes=1).astype(np.float32)
    return [luma, *(_halved(plane) + _MIDDLE for plane in chroma)]


def from_planes(planes: list[Plane]) -> Pixels:
    """Convert planes to an image (C, H, W); its values may be outside [0, 1]."""
    if len(planes) == 1:
        return planes[0][None]
    height, width = planes[0].shape
    chroma = [_doubled(_doubled(plane - _MIDDLE, 0), 1)[:height, :width] for plane in planes[1:]]
    x: Pixels = np.tensordot(FROM_YCC, np.stack([planes[0], *chroma]), axes=1).astype(np.float32)
    return x


def sizes_of_planes(height: int, width: int, planes: int) -> list[tuple[int, int]]:
    """Return height and width of each plane of an image."""
    return [(height, width)] + [(-(-height // 2), -(-width // 2))] * (planes - 1)


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    mean: Plane = (even[::2, ::2] + even[::2, 1::2] + even[1::2, ::2] + even[1::2, 1::2]) * _FAR
    return mean


def _doubled(plane: Plane, axis: int) -> Plane:
    """Double an axis: each value becomes two, three quarters of itself and a quarter of the neighbour on that side."""
    length = plane.shape[axis]
    before = np.take(plane, np.maximum(np.arange(length) - 1, 0), axis)
    after = np.take(plane, np.minimum(np.arange(length) + 1, length - 1), axis)
    pairs = np.stack([_NEAR * plane + _FAR * before, _NEAR * plane + _FAR * after], axis + 1)
    doubled: Plane = pairs.reshape(*plane.shape[:axis], 2 * length, *plane.shape[axis + 1 :])
    return doubled
