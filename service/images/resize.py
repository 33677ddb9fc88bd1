"""Resize an image to the input size of a model, and the result back, by the resize policy of the manifest."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.contract.manifest import InputSpec
from service.errors import SizeMismatch
from service.images.image import Pixels

Plane = NDArray[np.float32]  # (H, W)

_STEP_PIXELS = 1 << 19  # read or written in one step of resampling: 10 ms, or 80 ms for a sliver
_LANCZOS_REACH = 3  # support in pixels of the coarser grid, to each side; bilinear has 1


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
    """Resample images to another size, each channel in floating point.

    Args:
        x: Images, (..., H, W).
        height: New height.
        width: New width.
        is_smooth: Use bilinear interpolation, which stays within the range of `x`. Lanczos is sharper and may
            overshoot. Both are antialiased.
    """
    if x.shape[-2:] == (height, width):
        return x
    method = PillowImage.Resampling.BILINEAR if is_smooth else PillowImage.Resampling.LANCZOS
    planes = x.reshape(-1, *x.shape[-2:])
    result: NDArray[np.float32] = np.empty((len(planes), height, width), np.float32)
    for plane, resized in zip(planes, result, strict=True):
        resized[:] = _resize(plane, height, width, method)
    return result.reshape(*x.shape[:-2], height, width)


def _resize(plane: Plane, height: int, width: int, method: PillowImage.Resampling) -> Plane:
    """Resample one plane horizontally, then vertically, as Pillow does; large planes in steps.

    Pillow holds the GIL meanwhile: a sliver of 8 million pixels stopped all other threads for 1.4 s.
    """
    if max(plane.size, height * width) <= _STEP_PIXELS:
        return np.asarray(PillowImage.fromarray(np.ascontiguousarray(plane)).resize((width, height), method))
    rows = max(1, _STEP_PIXELS // max(plane.shape[1], width))
    strips = [_across(plane[top : top + rows], width, method) for top in range(0, len(plane), rows)]
    return _down(np.concatenate(strips), height, method)


def _across(strip: Plane, width: int, method: PillowImage.Resampling) -> Plane:
    height, old = strip.shape
    if width == old:
        return strip
    picture = PillowImage.fromarray(np.ascontiguousarray(strip))
    step = max(1, width * _STEP_PIXELS // max(strip.size, height * width))
    parts = []
    for left in range(0, width, step):
        right = min(left + step, width)
        box = (left * old / width, 0, right * old / width, height)
        parts.append(np.asarray(picture.resize((right - left, height), method, box=box)))
    return np.concatenate(parts, axis=1)


def _down(plane: Plane, height: int, method: PillowImage.Resampling) -> Plane:
    old, width = plane.shape
    if height == old:
        return plane
    scale = old / height
    reach = math.ceil(_LANCZOS_REACH * max(scale, 1)) + 1  # source rows to each side that a new row depends on
    step = max(1, height * _STEP_PIXELS // max(plane.size, height * width))
    parts = []
    for top in range(0, height, step):
        bottom = min(top + step, height)
        first, last = max(0, int(top * scale) - reach), min(old, math.ceil(bottom * scale) + reach)
        box = (0, top * scale - first, width, min(bottom * scale - first, last - first))
        picture = PillowImage.fromarray(np.ascontiguousarray(plane[first:last]))
        parts.append(np.asarray(picture.resize((width, bottom - top), method, box=box)))
    return np.concatenate(parts)
