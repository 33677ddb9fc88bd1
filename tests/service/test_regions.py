"""Regions of an anomaly map, against a flood fill that is too slow to serve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from service.tasks.anomaly.regions import MAX_REGIONS, Component, find_regions

Map = NDArray[np.float32]
MAPS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0.0, 0.2, 0.6, 0.8, 1.0]),
)


def flood_fill(values: Map, level: float) -> list[Component]:
    """Every region of a map that is not larger than 1024 a side, in reading order."""
    waiting_cells = [(int(y), int(x)) for y, x in np.argwhere(values >= level)]
    left_over = set(waiting_cells)
    regions = []
    for start in waiting_cells:
        if start not in left_over:
            continue
        left_over.remove(start)
        waiting, cells = [start], []
        while waiting:
            y, x = waiting.pop()
            cells.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left_over
            left_over -= near
            waiting += near
        rows, columns = zip(*cells, strict=True)
        peak = max(float(values[cell]) for cell in cells)
        regions.append(Component(min(rows), min(columns), max(rows) + 1, max(columns) + 1, peak, len(cells)))
    return regions


@given(MAPS, st.sampled_from([0.1, 0.5, 0.6, 0.9, 1.5]))
@settings(deadline=None)
def test_regions_are_those_of_a_flood_fill_largest_first(values: Map, level: float) -> None:
    expected = sorted(flood_fill(values, float(np.float32(level))), key=lambda region: -region.area)

    assert find_regions(values, level) == expected[:MAX_REGIONS]


def comb(side: int) -> Map:
    """Teeth that only meet in the last row."""
    values = np.zeros((side, side), np.float32)
    values[:, ::2] = 1
    values[-1] = 1
    return values


def spiral(side: int) -> Map:
    """One path, a cell wide, from the outside to the middle."""
    values = np.zeros((side, side), np.float32)
    y, x, step_y, step_x = 0, 0, 0, 1
    for length in [side - 1] * 3 + [n for n in range(side - 3, 0, -2) for _ in range(2)]:
        for _ in range(length):
            values[y, x] = 1
            y, x = y + step_y, x + step_x
        step_y, step_x = step_x, -step_y
    return values


@pytest.mark.parametrize("values", [comb(63), comb(63)[::-1], spiral(41), spiral(41).T, spiral(41)[::-1, ::-1]])
def test_a_winding_region_is_one(values: Map) -> None:
    (region,) = find_regions(np.ascontiguousarray(values), 0.5)

    assert region == (0, 0, *values.shape, 1.0, values.sum())


def test_a_large_map_is_looked_at_in_blocks() -> None:
    values = np.zeros((2400, 1200), np.float32)  # 3x3 pixels become one
    values[301, 100] = 1.0
    values[2399, 1199] = 0.7

    assert find_regions(values, 0.5) == [
        Component(300, 99, 303, 102, 1.0, 9),
        Component(2397, 1197, 2400, 1200, float(np.float32(0.7)), 9),
    ]


def test_a_map_below_the_level_has_no_regions() -> None:
    assert find_regions(np.zeros((5, 7), np.float32), 0.1) == []
