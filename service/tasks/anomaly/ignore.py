"""The mask of a request: pixels that the detector ignores, at the size of the image and on the model's canvas."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidParameter, RequestError
from service.images.inspect import ImageFile
from service.images.resize import Placement, resample
from service.limits import InputLimits
from service.tasks.image_input import read_image

_WHITE = 0.5  # pixels at least this bright are ignored
_LANCZOS_REACH = 3  # pixels of the coarser grid that a resized pixel depends on, to each side
_AROUND = (
    16  # of a canvas side: a detector leaves out what is so near to ignored pixels, see training/anomaly/ignore.py
)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ignored:
    """Ignored pixels: `sent`, (H, W) of the image, and `canvas`, those of the model's input that depend on them."""

    sent: Mask
    canvas: Mask


def read_ignored(file: ImageFile, placement: Placement, limits: InputLimits) -> Ignored:
    """Read a mask, white where pixels are ignored. A mask of another size is resized to the image's.

    Raises:
        InvalidParameter: The mask covers the image, or leaves too little of it.
        RequestError: The mask cannot be read, or exceeds a limit.
    """
    try:
        image = read_image(file, limits)
    except RequestError as error:
        raise type(error)(f"the mask in 'ignore': {error.detail}") from error
    if len(image.values) > 1:
        raise InvalidParameter(f"the mask in 'ignore' holds {len(image.values)} images; send one for all files")
    levels = image.pixels(1)[0, 0]
    if image.alpha is not None:
        levels = levels * (image.alpha.astype(np.float32) / np.float32(255))
    sent = resample(levels, placement.height, placement.width, is_smooth=True) >= _WHITE
    if sent.all():
        raise InvalidParameter(
            "the mask in 'ignore' is white everywhere, so nothing would be looked at: make black what counts, or leave "
            "the mask out"
        )
    canvas = _on_canvas(sent, placement)
    if sent.any() and _grown(canvas, -(-max(canvas.shape) // _AROUND)).all():
        raise InvalidParameter(
            "the mask in 'ignore' leaves too little to judge: make black at least an eighth of the image's longer side "
            "in both directions"
        )
    return Ignored(sent, canvas)


def _on_canvas(sent: Mask, placement: Placement) -> Mask:
    """Return all pixels of the canvas that depend on ignored ones."""
    if not placement.is_resized:
        unmoved: Mask = placement.place(sent.astype(np.float32)[None, None])[0, 0] > 0
        return unmoved
    inner = (placement.inner_height, placement.inner_width)
    covered = resample(sent.astype(np.float32), *inner, is_smooth=True) > 0
    largest = max(inner[0] / placement.height, inner[1] / placement.width, 1.0)
    grown = _grown(covered, math.ceil(_LANCZOS_REACH * largest))
    bottom = placement.canvas_height - inner[0] - placement.top
    right = placement.canvas_width - inner[1] - placement.left
    return np.pad(grown, ((placement.top, bottom), (placement.left, right)), mode="edge")


def _grown(mask: Mask, reach: int) -> Mask:
    """Return a mask grown by a number of pixels in every direction."""
    for axis in (0, 1):
        padded = np.pad(mask, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis)
        mask = np.any(windows, axis=-1, out=np.empty_like(mask))
    return mask
