"""From anomaly scores to decisions: conformal p-values, thresholds, and where in the image it is."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
    for top, left, bottom, right, value, cell_count in _connected(cells, REGION_LEVEL * peak):
        y, x, y_end, x_end = top * block, left * block, min(height, bottom * block), min(width, right * block)
        area = min(cell_count * block**2, (y_end - y) * (x_end - x))
        regions.append(Region(y, x, y_end, x_end, value, area))
    return sorted(regions, key=lambda region: (-region.area, -region.peak))[:MAX_REGIONS]


def _block_maximum(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    if block == 1:
        return values
    rows, columns = np.arange(0, values.shape[0], block), np.arange(0, values.shape[1], block)
    reduced: NDArray[np.float32] = np.maximum.reduceat(np.maximum.reduceat(values, rows, axis=0), columns, axis=1)
    return reduced


Part = list[Any]  # top, left, bottom, right: int; peak: float; area: int


def _connected(cells: NDArray[np.float32], level: float) -> Iterable[Part]:
    """The 8-connected components of the cells from `level` on, by union of the runs of neighbouring rows."""
    rows, starts, stops, peaks = _runs(cells, level)
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    i = 0  # the first run of the row above that may still touch run j
    for j, row in enumerate(rows):
        while rows[i] < row - 1 or (rows[i] == row - 1 and stops[i] < starts[j]):
            i += 1
        above = i
        while rows[above] == row - 1 and starts[above] <= stops[j]:  # they overlap or touch at a corner
            parent[root(above)] = root(j)
            above += 1
    parts: dict[int, Part] = {}
    for j, row in enumerate(rows):
        start, stop, peak = starts[j], stops[j], peaks[j]
        part = parts.setdefault(root(j), [row, start, row + 1, stop, peak, 0])
        part[1] = min(part[1], start)
        part[2] = row + 1  # rows ascend
        part[3] = max(part[3], stop)
        part[4] = max(part[4], peak)
        part[5] += stop - start
    return parts.values()


def _runs(cells: NDArray[np.float32], level: float) -> tuple[list[int], list[int], list[int], list[float]]:
    """Row, first column, one past the last column, and largest value of every run of cells from `level` on."""
    height, width = cells.shape
    mask = np.zeros((height, width + 2), np.bool_)  # a gap on either side, so that no run goes on in the next row
    np.greater_equal(cells, level, out=mask[:, 1:-1])
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    rows, columns = np.divmod(edges, width + 2)
    flat_edges = rows * width + columns
    if flat_edges[-1] == cells.size:  # what follows the last run would be empty, which reduceat does not know
        flat_edges = flat_edges[:-1]
    peaks = np.maximum.reduceat(cells.ravel(), flat_edges)[::2]
    return rows[::2].tolist(), columns[::2].tolist(), columns[1::2].tolist(), peaks.tolist()
