"""From anomaly scores to decisions: conformal p-values, thresholds, and where in the image it is."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import UnreachableRate
from service.manifest import Calibration

# A region is where the map is at least this share of its own peak: half, as in "full width at half maximum".
REGION_LEVEL = 0.5
MAX_REGIONS = 16
_MAX_CELLS = 256  # a side: larger maps are labelled in blocks, so that a hostile pattern stays cheap


@dataclass(frozen=True)
class Region:
    """A connected part of an anomaly map: its box in map pixels, its largest value, its area in map pixels."""

    top: int
    left: int
    bottom: int
    right: int
    peak: float
    area: int


def p_value(score: float, calibration: Sequence[float]) -> float:
    """The share of normal images that look at least this unusual, with the image itself counted among them.

    (1 + number of calibration scores at or above `score`) / (n + 1): for a normal image it is below any p with
    probability at most p (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005).

    Args:
        score: Of the image.
        calibration: Scores of n normal images the model has not seen, ascending.
    """
    above = len(calibration) - bisect_left(calibration, score)
    return (1 + above) / (len(calibration) + 1)


def threshold_for(calibration: Calibration, max_fpr: float | None) -> float:
    """The score from which an image is anomalous, so that at most about `max_fpr` of normal images are.

    Args:
        calibration: Of the model.
        max_fpr: None for the manifest's own threshold.

    Raises:
        UnreachableRate: There are too few calibration scores to promise so low a rate.
    """
    if max_fpr is None:
        return calibration.threshold
    n = len(calibration.scores)
    allowed = math.floor(max_fpr * (n + 1) + 1e-9) - 1  # calibration scores that may lie at or above the threshold
    if allowed < 0:
        raise UnreachableRate(
            f"max_fpr={max_fpr} is below {1 / (n + 1):.3g}, the smallest rate that {n} calibration scores can promise"
        )
    return math.nextafter(calibration.scores[n - 1 - min(allowed, n - 1)], math.inf)


def find_regions(anomaly_map: NDArray[np.float32]) -> list[Region]:
    """The parts of a map that reach `REGION_LEVEL` of its peak, largest first, at most `MAX_REGIONS`.

    Cells touch over edges and corners. Maps over 256 pixels a side are looked at in blocks by their maximum, so
    boxes and areas are multiples of the block there.

    Args:
        anomaly_map: (H, W), larger means more unusual.
    """
    height, width = anomaly_map.shape
    block = max(1, -(-max(height, width) // _MAX_CELLS))
    cells = _block_maximum(anomaly_map, block)
    peak = float(cells.max())
    if peak <= 0:
        return []
    regions = []
    for runs in _connected(cells >= REGION_LEVEL * peak):
        rows, starts, stops = np.array(runs).T
        top, bottom = int(rows.min()) * block, min(height, (int(rows.max()) + 1) * block)
        left, right = int(starts.min()) * block, min(width, int(stops.max()) * block)
        value = max(float(cells[row, start:stop].max()) for row, start, stop in runs)
        area = min(int((stops - starts).sum()) * block**2, (bottom - top) * (right - left))
        regions.append(Region(top, left, bottom, right, value, area))
    return sorted(regions, key=lambda region: (-region.area, -region.peak))[:MAX_REGIONS]


def _block_maximum(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    if block == 1:
        return values
    rows, columns = np.arange(0, values.shape[0], block), np.arange(0, values.shape[1], block)
    reduced: NDArray[np.float32] = np.maximum.reduceat(np.maximum.reduceat(values, rows, axis=0), columns, axis=1)
    return reduced


Run = tuple[int, int, int]  # row, first column, one past the last column


def _connected(mask: NDArray[np.bool_]) -> list[list[Run]]:
    """The 8-connected components of a mask, as lists of runs, by union of the runs of neighbouring rows."""
    parent: list[int] = []
    runs: list[Run] = []

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above = range(0)
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.pad(line.astype(np.int8), 1)))
        here = range(len(runs), len(runs) + len(edges) // 2)
        for start, stop in edges.reshape(-1, 2).tolist():
            runs.append((row, start, stop))
            parent.append(len(parent))
        i, j = above.start, here.start
        while i < above.stop and j < here.stop:
            if runs[i][1] <= runs[j][2] and runs[j][1] <= runs[i][2]:  # they overlap or touch at a corner
                parent[root(i)] = root(j)
            if runs[i][2] < runs[j][2]:
                i += 1
            else:
                j += 1
        above = here
    components: dict[int, list[Run]] = {}
    for i, run in enumerate(runs):
        components.setdefault(root(i), []).append(run)
    return list(components.values())
