"""Regions of an anomaly map, against a flood fill that is too slow to serve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pydantic import ValidationError

from service.anomaly import MAX_REGIONS, REGION_LEVEL, Region, find_regions
from service.manifest import Calibration

Map = NDArray[np.float32]
MAPS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0.0, 0.2, 0.6, 0.8, 1.0]),
)


def flood_fill(values: Map) -> list[Region]:
    """Every region of a map that is not larger than 256 a side, in any order."""
    left_over = {(int(y), int(x)) for y, x in np.argwhere(values >= REGION_LEVEL * values.max())}
    regions = []
    while left_over and values.max() > 0:
        waiting, cells = [left_over.pop()], []
        while waiting:
            y, x = waiting.pop()
            cells.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left_over
            left_over -= near
            waiting += near
        rows, columns = zip(*cells, strict=True)
        peak = max(float(values[cell]) for cell in cells)
        regions.append(Region(min(rows), min(columns), max(rows) + 1, max(columns) + 1, peak, len(cells)))
    return regions


@given(MAPS)
@settings(deadline=None)
def test_regions_are_those_of_a_flood_fill_largest_first(values: Map) -> None:
    expected = sorted(flood_fill(values), key=lambda region: (-region.area, -region.peak))

    found = find_regions(values)

    assert [(r.area, r.peak) for r in found] == [(r.area, r.peak) for r in expected[:MAX_REGIONS]]
    assert set(found) <= set(expected)
    assert len(set(found)) == len(found)


def test_a_large_map_is_looked_at_in_blocks() -> None:
    values = np.zeros((600, 300), np.float32)  # 3x3 cells become one
    values[301, 100] = 1.0
    values[599, 299] = 0.7

    assert find_regions(values) == [
        Region(300, 99, 303, 102, 1.0, 9),
        Region(597, 297, 600, 300, float(np.float32(0.7)), 9),
    ]


def test_a_map_of_nothing_has_no_regions() -> None:
    assert find_regions(np.zeros((5, 7), np.float32)) == []


@pytest.mark.parametrize(
    ("map_peaks", "problem"),
    [((2.0, 1.0), "map_peaks must be in ascending order"), ((1.0,), "1 map_peaks and 2 scores")],
)
def test_a_calibration_has_a_peak_for_every_score_in_ascending_order(
    map_peaks: tuple[float, ...], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        Calibration(score="any", target_fpr=0.1, threshold=1.0, scores=(0.0, 1.0), map_peaks=map_peaks)
