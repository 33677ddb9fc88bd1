"""Resize an image to the input size of a model, and the result back, by the resize policy of the manifest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import InputSpec
from service.errors import SizeMismatch
from service.images.image import Pixels

Filter = tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], int]  # distance -> weight, and its support
Product = tuple[slice, slice, NDArray[np.float64]]  # new positions, old positions, weights (old, new)

_POSITIONS = 16  # resampled by one product: with more, more of its weights are 0
_WEIGHTS = 1 << 18  # of one product, at most, where one new position depends on very many old ones
_KEPT_SIZE = 4096
_PRODUCT = 1 << 18  # multiplications: OpenBLAS takes more threads for a larger product


def _lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


def _bilinear(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(distance), 0.0)


_LANCZOS: Filter = (_lanczos, 3)
_BILINEAR: Filter = (_bilinear, 1)


@dataclass(frozen=True)
class Placement:
    """Position of an image of `height` x `width` on the model's canvas.

    Attributes:
        height, width: Size of the image of the request.
        inner_height, inner_width: Size of the image on the canvas.
        top, left: Position of the image on the canvas.
        canvas_height, canvas_width: Size of the model's input. Around the image, its edge is replicated for models of
            a fixed size, and mirrored where a dynamic size is padded to a multiple.
        policy: "fit", "exact", "pad" or "none", as in the header X-Resize.
    """

    height: int
    width: int
    inner_height: int
    inner_width: int
    top: int
    left: int
    canvas_height: int
    canvas_width: int
    policy: str

    @property
    def is_resized(self) -> bool:
        """Whether the pixels themselves were resampled."""
        return (self.height, self.width) != (self.inner_height, self.inner_width)

    @property
    def description(self) -> str | None:
        """The resizing applied, width x height, or None: "fit 640x480 -> 28x21 in 28x28"."""
        if self.policy == "none":
            return None
        inner = f"{self.inner_width}x{self.inner_height}"
        canvas = f"{self.canvas_width}x{self.canvas_height}"
        target = canvas if inner == canvas else f"{inner} in {canvas}"
        return f"{self.policy} {self.width}x{self.height} -> {target}"

    def place(self, x: Pixels) -> Pixels:
        """Resize and pad (N, C, height, width) to (N, C, canvas_height, canvas_width), in [0, 1]."""
        if self.policy == "none":
            return x
        if self.is_resized:
            x = np.clip(resample(x, self.inner_height, self.inner_width), 0.0, 1.0)
        bottom = self.canvas_height - self.inner_height - self.top
        right = self.canvas_width - self.inner_width - self.left
        # Mirroring needs as many pixels as it pads; a sliver has fewer, so its edge is replicated.
        mirrors = self.policy == "pad" and bottom < self.height and right < self.width
        padding = ((0, 0), (0, 0), (self.top, bottom), (self.left, right))
        return np.pad(x, padding, mode="reflect" if mirrors else "edge")

    def restore(self, y: Pixels, *, is_smooth: bool = False) -> Pixels:
        """Crop and resize (..., canvas_height, canvas_width) back to (..., height, width).

        Args:
            y: Images or maps, (..., canvas_height, canvas_width).
            is_smooth: Never go below or above the values of `y`, as maps need.
        """
        return resample(self.crop(y), self.height, self.width, is_smooth=is_smooth)

    def crop(self, y: Pixels) -> Pixels:
        """Crop (..., canvas_height, canvas_width) to (..., inner_height, inner_width): remove the padding."""
        return y[..., self.top : self.top + self.inner_height, self.left : self.left + self.inner_width]


def plan_placement(spec: InputSpec, height: int, width: int) -> Placement:
    """Plan how to fit an image of `height` x `width` to the canvas of this model.

    Raises:
        SizeMismatch: The size differs from the model's, whose policy is "reject".
    """
    if spec.height is None or spec.width is None:
        step = spec.multiple_of
        canvas = (-(-height // step) * step, -(-width // step) * step)
        policy = "none" if canvas == (height, width) else "pad"
        return Placement(height, width, height, width, 0, 0, *canvas, policy)
    canvas = (spec.height, spec.width)
    if (height, width) == canvas:
        return Placement(height, width, height, width, 0, 0, *canvas, "none")
    if spec.resize == "reject":
        raise SizeMismatch(f"the image is {width}x{height}, the model takes exactly {canvas[1]}x{canvas[0]}")
    if spec.resize == "exact":
        return Placement(height, width, *canvas, 0, 0, *canvas, "exact")
    scale = min(canvas[0] / height, canvas[1] / width)
    inner = (
        min(canvas[0], max(1, round(height * scale))),
        min(canvas[1], max(1, round(width * scale))),
    )
    top, left = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
    return Placement(height, width, *inner, top, left, *canvas, "fit")


def resample(x: Pixels, height: int, width: int, *, is_smooth: bool = False) -> Pixels:
    """Resample images to another size, each channel in floating point, with the numbers of Pillow.

    A new row or column is a weighted sum of old ones, so a few new ones at a time are a product of matrices. This takes
    half of Pillow's time, or a third for large pictures, and lets other threads run.

    Args:
        x: Images, (..., H, W).
        height: New height.
        width: New width.
        is_smooth: Use bilinear interpolation, which stays within the range of `x`. Lanczos is sharper and may
            overshoot. Both are antialiased.
    """
    if x.shape[-2:] == (height, width):
        return x
    method = _BILINEAR if is_smooth else _LANCZOS
    planes = x.reshape(-1, *x.shape[-2:])
    return _down(_across(planes, width, method), height, method).reshape(*x.shape[:-2], height, width)


def _across(planes: Pixels, width: int, method: Filter) -> Pixels:
    """Resample (N, H, W) to (N, H, width)."""
    if planes.shape[2] == width:
        return planes
    rows = planes.reshape(-1, planes.shape[2])
    out = np.empty((len(rows), width), np.float32)
    for new, old, weights in _products(planes.shape[2], width, method):
        step = max(1, _PRODUCT // weights.size)
        for top in range(0, len(rows), step):
            out[top : top + step, new] = rows[top : top + step, old].astype(np.float64) @ weights
    return out.reshape(*planes.shape[:2], width)


def _down(planes: Pixels, height: int, method: Filter) -> Pixels:
    """Resample (N, H, W) to (N, height, W)."""
    count, old_height, width = planes.shape
    if old_height == height:
        return planes
    out = np.empty((count, height, width), np.float32)
    for new, old, weights in _products(old_height, height, method):
        step = max(1, _PRODUCT // weights.size)
        for plane, resized in zip(planes, out, strict=True):
            for left in range(0, width, step):
                columns = slice(left, left + step)
                resized[new, columns] = weights.T @ plane[old, columns].astype(np.float64)
    return out


def _products(old: int, new: int, method: Filter) -> Iterable[Product]:
    """Return some new positions after another, with the old ones that they depend on and the weights.

    Weights are those of Pillow's `precompute_coeffs`. They take a third of the time, and most pictures of a camera have
    the same size, so those of the last sizes are kept: a megabyte for each at most.
    """
    return _kept(old, new, method) if max(old, new) <= _KEPT_SIZE else _made(old, new, method)


@lru_cache(maxsize=8)
def _kept(old: int, new: int, method: Filter) -> tuple[Product, ...]:
    return tuple(_made(old, new, method))


def _made(old: int, new: int, method: Filter) -> Iterator[Product]:
    weight, support = method
    scale = old / new
    stretch = max(scale, 1.0)  # a filter for fewer pixels is wider: antialiasing
    reach = support * stretch
    most = min(_POSITIONS / min(scale, 1.0), 4 * _POSITIONS, _WEIGHTS / (2 * reach))
    step = max(1, int(most))
    for first in range(0, new, step):
        last = min(first + step, new)
        centre = (np.arange(first, last) + 0.5) * scale
        begin = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
        end = np.minimum((centre + reach + 0.5).astype(np.int64), old)
        at = np.arange(begin[0], end[-1])[:, np.newaxis]
        weights = np.where((at >= begin) & (at < end), weight((at - centre + 0.5) / stretch), 0.0)
        yield slice(first, last), slice(int(begin[0]), int(end[-1])), weights / weights.sum(0)
