"""AUROC, AUPRO and F1-max against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.anomaly_sets import tiles
from training.measure.anomaly import aupro, auroc, f1_max, pixel_auroc


def test_auroc_is_the_share_of_pairs_in_the_right_order_with_ties_counting_half() -> None:
    # pairs (anomalous, normal): 3>1, 3>2, 2>1, 2=2 -> (3 + 0.5) / 4
    assert auroc([1, 2], [3, 2]) == pytest.approx(3.5 / 4)


def test_auroc_is_one_for_perfect_scores_and_a_half_for_constant_ones() -> None:
    assert auroc([0.1, 0.2], [0.3, 0.9]) == 1.0
    assert auroc([5, 5, 5], [5, 5]) == 0.5


def test_f1_max_finds_the_best_threshold() -> None:
    # threshold 2: 2 of 3 anomalous found, 0 wrong -> 2*2/(2+0+3); threshold 1: 3 found, 1 wrong -> 6/7
    assert f1_max([0, 0, 1], [1, 2, 3]) == pytest.approx(6 / 7)
    assert f1_max([0, 0, 0], [1, 1, 1]) == 1.0


def test_aupro_counts_every_region_the_same_and_stops_at_a_rate_of_three_tenths() -> None:
    values = np.zeros((1, 13), np.float32)
    mask = np.zeros((1, 13), bool)
    mask[0, 0] = mask[0, 2] = mask[0, 3] = True  # a region of one pixel and one of two
    values[0] = [9, 0, 8, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0]  # found at once, half of it at once and half never

    assert aupro([values], [mask]) == pytest.approx((1.0 + 0.5) / 2)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    values, mask = np.full((4, 8), -1.0, np.float32), np.zeros((4, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[3, 5] = True  # a diagonal pair, half of it found, and a pixel alone, found
    values[0, 0] = values[3, 5] = 9
    values[1, 1] = -2

    assert aupro([values], [mask]) == pytest.approx((0.5 + 1.0) / 2)


def test_aupro_takes_off_what_is_found_only_after_normal_pixels() -> None:
    values = np.arange(11, dtype=np.float32)[None]
    mask = np.zeros((1, 11), bool)
    mask[0, 8] = True  # two of ten normal pixels are higher: found from a rate of 0.2 on, of 0.3

    assert aupro([values], [mask]) == pytest.approx((0.3 - 0.2) / 0.3)


def test_pixel_auroc_takes_all_images_together() -> None:
    maps = [np.array([[0.0, 1.0]], np.float32), np.array([[2.0, 3.0, 0.5]], np.float32)]
    masks = [np.array([[False, True]]), np.array([[False, True, False]])]

    assert pixel_auroc(maps, masks) == pytest.approx((2 + 3) / 6)


def test_pictures_of_one_tile_are_those_of_rising_exposure_in_nearby_frames() -> None:
    names = ["exp1_num_100", "exp2_num_120", "exp3_num_150", "exp1_num_190", "exp2_num_210", "exp5_num_900"]
    paths = [Path(f"{name}.jpg") for name in names]

    assert list(tiles(paths).values()) == [0, 0, 0, 1, 1, 2]
