"""Ranges of statistics of good images, by which the service detects pictures of another kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Tensor

from service.contract.likeness import DISTANCE, statistics_of
from service.contract.sections import Learnt
from training.images.pixels import to_pixels
from training.images.reader import peek

CHUNK = 64  # images at once


def looks_of(paths: Sequence[Path], images: Real[Tensor, "_ c h w"]) -> Learnt:
    """Measure the ranges of file sizes and image statistics.

    Args:
        paths: Image files, read for their sizes.
        images: The same images at the model's size, bytes or pixels.
    """
    sizes = np.array([header[0] for path in paths if (header := peek(path))])  # (N, 2): width, height
    found = [statistics_of(to_pixels(part).numpy()) for part in torch.split(images, CHUNK)]
    looks = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    least, most = sizes.min(0).tolist(), sizes.max(0).tolist()
    return Learnt(
        widths=(least[0], most[0]),
        heights=(least[1], most[1]),
        looks=_ranges(looks),
    )


def with_features(learnt: Learnt, distances: NDArray[np.float32]) -> Learnt:
    """Return ranges with that of the distances (N,) of held-out good images from others, see `kind.py`."""
    return learnt.model_copy(update={"looks": {**learnt.looks, **_ranges({DISTANCE: distances})}})


def _ranges(found: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    return {name: (float(values.min()), float(values.max())) for name, values in found.items()}


def joined(old: Learnt | None, new: Learnt) -> Learnt:
    """Return ranges that contain both of the given ones."""
    if old is None:
        return new
    return Learnt(
        widths=(min(old.widths[0], new.widths[0]), max(old.widths[1], new.widths[1])),
        heights=(min(old.heights[0], new.heights[0]), max(old.heights[1], new.heights[1])),
        looks={name: _both(old.looks[name], extent) for name, extent in new.looks.items() if name in old.looks},
    )


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])
