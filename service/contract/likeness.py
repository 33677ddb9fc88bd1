"""Whether a picture is of the kind that a model has learnt from: what training and service measure alike."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
DISTANCE = "features"  # name of the distance of an image as a whole from good ones

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_NEARLY = 1.1  # ratio of proportions that the resize policies of detectors do not mind, see docs/anomaly.md
_FACTOR = 2.0  # on width and height: fewer or more pixels show another sharpness


def statistics_of(x: Pixels) -> dict[str, NDArray[np.float32]]:
    """Measure brightness, contrast and sharpness of images as the model sees them: a number per image and name.

    Pixels that are NaN are left out.

    brightness: mean of the luma. contrast: its standard deviation. sharpness: mean difference of neighbouring pixels,
    over the contrast.

    Args:
        x: Images, (N, C, H, W), pixels in [0, 1].
    """
    luma = x[:, 0] if x.shape[1] == 1 else np.tensordot(x, _LUMA, axes=(1, 0))  # (N, H, W)
    contrast = np.nanstd(luma, axis=(1, 2))
    steps = sum(np.nanmean(np.abs(np.diff(luma, axis=axis)), axis=(1, 2)) for axis in (1, 2))
    return {
        "brightness": np.nanmean(luma, axis=(1, 2)),
        "contrast": contrast,
        "sharpness": (steps / np.maximum(contrast, 1e-3)).astype(np.float32),
    }


def unlike_in_size(width: int, height: int, widths: tuple[int, int], heights: tuple[int, int]) -> list[str]:
    """Describe a size unlike the training images: another aspect ratio, or twice or half as large.

    Args:
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        widths: Minimum and maximum of the training images.
        heights: Least and most.
    """
    proportions = width / height
    narrowest, widest = widths[0] / heights[1], widths[1] / heights[0]
    fits = (
        narrowest / _NEARLY <= proportions <= widest * _NEARLY
        and widths[0] / _FACTOR <= width <= widths[1] * _FACTOR
        and heights[0] / _FACTOR <= height <= heights[1] * _FACTOR
    )
    if fits:
        return []
    learnt = "x".join(f"{low}" if low == high else f"({low} to {high})" for low, high in (widths, heights))
    return [f"{width}x{height}; learnt {learnt}"]


def unlike_in_looks(found: Mapping[str, float], learnt: Mapping[str, tuple[float, float]]) -> list[str]:
    """Describe the statistics of an image outside the training range, widened by its own width.

    The range is taken for a fifth of its upper end at least, as few pictures of one session hardly differ. `features`
    is a distance, which nothing can be too small for: the training images themselves have smaller ones than held out.

    Args:
        found: Statistics of an image, by name.
        learnt: Minimum and maximum of the training images, by name.
    """
    sentences = []
    for name, (low, high) in learnt.items():
        margin = max(high - low, 0.2 * abs(high))
        least = 0.0 if name == DISTANCE else low - margin
        if not least <= found[name] <= high + margin:
            sentences.append(f"{name} {found[name]:.2g}; learnt {low:.2g} to {high:.2g}")
    return sentences
