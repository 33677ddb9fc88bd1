"""Find the regions of an anomaly map: connected components at or above a level."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 16
_MAX_CELLS = 1024  # per side; larger maps are reduced to blocks, so that a hostile pattern takes at most 0.1 s

Whole = NDArray[Any]  # Any: NumPy's index type


class Component(NamedTuple):
    """A connected component of an anomaly map: bounding box, peak value, and area in pixels."""

    top: int
    left: int
    bottom: int
    right: int
    peak: float
    area: int


def find_regions(anomaly_map: NDArray[np.float32], level: float) -> list[Component]:
    """Find the connected components of a map at or above `level`, largest first, at most `MAX_REGIONS`.

    Pixels are connected over edges and corners. Maps over 1024 pixels per side are reduced to the maxima of blocks, so
    their boxes and areas are multiples of a block.

    Args:
        anomaly_map: Anomaly map, (H, W); larger is more anomalous.
        level: Smallest value in a region.
    """
    height, width = anomaly_map.shape
    block = max(1, -(-max(height, width) // _MAX_CELLS))
    regions = _largest(_block_maximum(anomaly_map, block), level)
    if block == 1:
        return regions
    return [_enlarge(region, block, height, width) for region in regions]


def _block_maximum(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    if block == 1:
        return values
    rows, columns = np.arange(0, values.shape[0], block), np.arange(0, values.shape[1], block)
    reduced: NDArray[np.float32] = np.maximum.reduceat(np.maximum.reduceat(values, rows, axis=0), columns, axis=1)
    return reduced


def _enlarge(region: Component, block: int, height: int, width: int) -> Component:
    top, left, bottom, right, peak, area = region
    y, x, y_end, x_end = top * block, left * block, min(height, bottom * block), min(width, right * block)
    return Component(y, x, y_end, x_end, peak, min(area * block**2, (y_end - y) * (x_end - x)))


def _largest(cells: NDArray[np.float32], level: float) -> list[Component]:
    """Return the largest 8-connected components, from the runs of all rows at once.

    A run is a sequence of cells in a row at or above `level`. NumPy works on the few runs, not on the cells: twice as
    fast as scipy.ndimage.label on a 256x256 map of smooth blobs (`python -m benchmarks.micro regions`).
    """
    stride = cells.shape[1] + 2
    starts, stops, peaks = _runs(cells, level)
    if not len(starts):
        return []
    label = _connect(starts, stops, stride)
    order = np.argsort(label, kind="stable")
    label, starts, stops, peaks = label[order], starts[order], stops[order], peaks[order]
    first = np.flatnonzero(np.concatenate(([True], label[1:] != label[:-1])))  # first run of every component
    area = np.add.reduceat(stops - starts, first)
    largest = np.argsort(-area, kind="stable")[:MAX_REGIONS]
    row = starts // stride
    columns = (
        np.minimum.reduceat(row, first),
        np.minimum.reduceat(starts - row * stride, first),
        np.maximum.reduceat(row, first) + 1,
        np.maximum.reduceat(stops - row * stride, first),
        np.maximum.reduceat(peaks, first),
        area,
    )
    return [Component(*values) for values in zip(*(column[largest].tolist() for column in columns), strict=True)]


def _runs(cells: NDArray[np.float32], level: float) -> tuple[Whole, Whole, NDArray[np.float32]]:
    """Return start and stop of every run, as row * (W + 2) + column, ascending, and its peak."""
    height, width = cells.shape
    mask = np.zeros((height, width + 2), np.bool_)  # a gap on either side, so that no run continues in the next row
    np.greater_equal(cells, level, out=mask[:, 1:-1])
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    in_cells = edges - edges // (width + 2) * 2
    if len(edges) and in_cells[-1] == cells.size:  # the last slice would be empty, which reduceat rejects
        in_cells = in_cells[:-1]
    peaks = np.maximum.reduceat(cells.ravel(), in_cells)[::2] if len(edges) else np.empty(0, np.float32)
    return edges[::2], edges[1::2], peaks


def _connect(starts: Whole, stops: Whole, stride: int) -> Whole:
    """Return the first run of the component that each run belongs to.

    Every run first points to the leftmost run that it touches in the row above. Runs that touch several then join them
    in rounds: the later root points to the earlier (Shiloach and Vishkin, An O(log n) Parallel Connectivity Algorithm,
    1982).
    """
    first = np.searchsorted(stops, starts - stride, "left")  # touching corners count: both ends are included
    count = np.searchsorted(starts, stops - stride, "right") - first
    parent = _to_roots(np.where(count > 0, first, np.arange(len(starts))))
    bridges = np.flatnonzero(count > 1)
    if not len(bridges):
        return parent
    further = count[bridges] - 1
    nth = np.arange(further.sum()) - np.repeat(np.cumsum(further) - further, further)
    below, above = np.repeat(bridges, further), np.repeat(first[bridges] + 1, further) + nth
    while True:
        a, b = parent[above], parent[below]
        apart = np.flatnonzero(a != b)
        if not len(apart):
            return parent
        above, below, a, b = above[apart], below[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        parent = _to_roots(parent)


def _to_roots(parent: Whole) -> Whole:
    while True:
        grandparent = parent[parent]
        if (grandparent == parent).all():
            return parent
        parent = grandparent
