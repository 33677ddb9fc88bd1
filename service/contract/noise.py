"""Features of the noise in a tile of an image, and the level estimated from them. Plain NumPy.

Training fits the estimator on these features and the service computes the same ones: if they change, they need
a new name in `LevelEstimator.features`.
"""

import numpy as np
from numpy.typing import NDArray

from service.contract.colour import TO_YCC
from service.contract.sections import LevelEstimator

UNIT = 255.0  # of sigma: steps of an 8-bit image
TILE = 128  # pixels a side; a multiple of 16, the block size of JPEG's subsampled colour
LEAST_SIDE = 16  # pixels; smaller tiles have too few differences

_SCALES = 3
_FLOOR = 0.05 / UNIT  # added before a logarithm: less than rounding to 8 bits leaves
_BLOCK = 8  # of JPEG; twice that where colour was halved
_EDGE = 8.0  # times the fine differences: larger steps are edges
_MAD_TO_SIGMA = 0.6744897501960817  # the median of |N(0, 1)|
_MOST_SPREADS = 4.0  # a feature further out than this was not seen when the estimator was fitted

Pixels = NDArray[np.float32]
Plane = NDArray[np.floating]
Row = NDArray[np.float64]
Rows = NDArray[np.float64]  # (N, features)


def root_levels(rows: Rows, estimator: LevelEstimator) -> Row:
    """Estimate the square roots of the noise levels from the features of tiles, (N, features); see `LevelEstimator`."""
    f = np.clip((rows - np.array(estimator.center)) / estimator.spread, -_MOST_SPREADS, _MOST_SPREADS)
    hidden = np.maximum(f @ np.array(estimator.hidden).T + estimator.hidden_bias, 0.0)
    roots: Row = hidden @ np.array(estimator.out) + estimator.out_bias
    return roots


def white_level(x: Pixels) -> float:
    """Estimate the standard deviation of white noise in an image (..., H, W) of at least 2x2, in 0-255 units.

    The median of the absolute finest diagonal differences, where edges are rare and noise is everywhere: Donoho and
    Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994, https://doi.org/10.1093/biomet/81.3.425, with the
    wavelet of Haar. Fine texture is taken for noise; noise that was smoothed or compressed looks like less than it is.
    """
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    even, odd = x[..., 0:height:2, :width], x[..., 1:height:2, :width]
    diagonal = (even[..., ::2] - even[..., 1::2] - odd[..., ::2] + odd[..., 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / _MAD_TO_SIGMA * UNIT)


def features(x: Pixels) -> Row:
    """Return noise features of a tile: logarithms of fine differences, at several scales of luma and colour.

    White noise halves from scale to scale, that of a camera or of JPEG does not. Edges and texture are few and large,
    so the mean of the smaller half of the differences is a feature, too. JPEG shows at every eighth pixel.

    Args:
        x: (C, H, W), pixels in [0, 1], at least `LEAST_SIDE` a side.
    """
    height, width = (side // _BLOCK * _BLOCK for side in x.shape[1:])
    planes = np.tensordot(TO_YCC, x, axes=1)[:, :height, :width] if len(x) == 3 else x[:, :height, :width]
    found: list[float] = []
    for number, plane in enumerate(planes):
        scales = _of_scales(plane)
        found += scales
        found += _of_blocks(plane, _BLOCK if number == 0 else 2 * _BLOCK, fine=np.exp(scales[0]))
    found += _of_light(planes[0])
    return np.array(found)


def _of_scales(plane: Plane) -> list[float]:
    found: list[float] = []
    for scale in range(_SCALES):
        a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
        across, down, diagonal = (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
        for differences in (np.concatenate([across, down], axis=None), diagonal.ravel()):
            sizes = np.abs(differences)
            half = max(1, sizes.size // 2)
            found += [_log(np.partition(sizes, half - 1)[:half].mean()), _log(sizes.mean())]
            if scale == 0:
                found.append(float((sizes < 0.5 / UNIT).mean()))  # JPEG leaves many that are nothing
        plane = (a + b + c + d) / 4
    return found


def _of_blocks(plane: Plane, block: int, *, fine: float) -> list[float]:
    """Return the excess of differences at block edges over those elsewhere, along both axes.

    At the place where it is most, and at that of blocks that begin at the edge. Steps much larger than `fine` are
    edges, and cut.
    """
    found: list[float] = []
    for lines in (plane, plane.T):
        steps = np.abs(np.diff(lines, axis=1))
        whole = steps[:, : steps.shape[1] // block * block]
        if not whole.size:
            return [0.0] * 4
        means = np.minimum(whole, _EDGE * fine).mean(axis=0)
        means = means.reshape(-1, block).mean(axis=0)  # of each place within a block
        others = (means.sum() - means) / (block - 1)
        excess = np.log((means + _FLOOR) / (others + _FLOOR))
        found += [float(excess.max()), float(excess[-1])]
    return found


def _of_light(luma: Plane) -> list[float]:
    light = luma[::2, ::2]
    diagonal = np.abs(light - luma[::2, 1::2] - luma[1::2, ::2] + luma[1::2, 1::2]) / 2
    middle = np.median(light)
    dark, bright = diagonal[light <= middle].mean(), diagonal[light >= middle].mean()
    shares = [float((luma < 4 / UNIT).mean()), float((luma > 251 / UNIT).mean())]
    return [float(light.mean()), float(light.std()), *shares, _log(bright) - _log(dark)]


def _log(value: float) -> float:
    return float(np.log(value + _FLOOR))
