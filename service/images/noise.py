"""Estimate the noise of an image from the image alone."""

from collections.abc import Iterator

import numpy as np

from service.contract.noise import LEAST_SIDE, TILE, features, root_levels, white_level
from service.contract.sections import Noise
from service.images.image import Image, Pixels

_TILES_A_SIDE = 4  # spread over the image; more of them change the mean little
_GRID = 16  # tiles are aligned to JPEG blocks, also to those of subsampled colour
_MOST_ROWS = 512  # pairs of rows compared; more change nothing
_MOST_COLUMNS = 1 << 14  # of a pair of rows; a sliver may have millions


def level_of(image: Image, noise: Noise, *, channels: int) -> float:
    """Estimate the noise level for a model with this many channels.

    A blind model estimates the noise itself: it gets `noise.untold`, a value below zero. Other models get a level in
    their range, in 0-255 units. It is the mean over tiles of their estimator, or the level of white noise if the
    model has no estimator. Tiny images, and grey images for a colour model, were not part of the training of the
    estimator and get the level of white noise, too.
    """
    estimator = noise.estimator
    if noise.untold is not None and image.channels >= channels:
        return noise.untold
    if estimator is None or min(image.size) < LEAST_SIDE or image.channels < channels:
        level = estimate_sigma(image)
    else:
        planes = (plane for x in tiles(image) for plane in (x.reshape(-1, channels, *x.shape[1:])))
        level = max(0.0, float(root_levels(np.array([features(x) for x in planes]), estimator).mean())) ** 2
    return min(max(level, noise.min_sigma), noise.max_sigma)


def tiles(image: Image) -> Iterator[Pixels]:
    """Yield square tiles (C, side, side) of the first image, evenly spread and aligned to JPEG blocks."""
    height, width = image.size
    rows, columns = (_starts(side, _TILES_A_SIDE) for side in (height, width))
    for top in rows:
        for left in columns:
            part = image.values[:1, :, top : top + TILE, left : left + TILE]
            yield Image(part).pixels(image.channels)[0]


def _starts(side: int, most: int) -> list[int]:
    last = max(0, side - TILE) // _GRID
    count = min(most, last * _GRID // TILE + 1)
    return sorted({round(i * last / max(1, count - 1)) * _GRID for i in range(count)})


def estimate_sigma(image: Image) -> float:
    """Estimate the white noise of one image, in 0-255 units; 0 for images below 2x2 pixels."""
    height, width = (side // 2 * 2 for side in image.size)
    if not height or not width:
        return 0.0
    step = max(1, height // 2 // _MOST_ROWS) * 2
    rows = (np.arange(0, height, step)[:, None] + [0, 1]).ravel()
    return white_level(Image(image.values[:1, :, rows, :_MOST_COLUMNS]).pixels(image.channels))
