"""Conformal p-values and thresholds by hand: nine scores, so n + 1 is ten."""

import numpy as np
import pytest

from service.contract.sections import Calibration
from service.errors import UnreachableRate
from service.tasks.anomaly.thresholds import map_threshold, p_value, score_threshold, smallest_rate

SCORES = tuple(float(i) for i in range(1, 10))
PEAKS = tuple(10.0 * i for i in range(1, 10))


def calibration(*, peaks: tuple[float, ...] = PEAKS, target_fpr: float = 0.2) -> Calibration:
    return Calibration(score="any", target_fpr=target_fpr, threshold=7.5, scores=SCORES, map_peaks=peaks)


def above(value: float) -> float:
    """The next float32."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, 1.0), (1.0, 1.0), (1.5, 0.9), (8.0, 0.3), (9.0, 0.2), (9.1, 0.1), (100.0, 0.1)]
)
def test_a_p_value_counts_the_scores_at_or_above_and_the_image_itself(score: float, expected: float) -> None:
    assert p_value(score, SCORES) == pytest.approx(expected)


def test_the_smallest_rate_is_that_of_a_score_above_all() -> None:
    assert smallest_rate(calibration()) == pytest.approx(0.1) == pytest.approx(p_value(100.0, SCORES))


@pytest.mark.parametrize(
    ("max_fpr", "expected"),
    [
        (None, 7.5),
        (0.1, above(9)),
        (0.19, above(9)),
        (0.2, above(8)),
        (0.3, above(7)),
        (0.9, above(1)),
        (0.999, above(1)),
    ],
)
def test_a_score_is_anomalous_just_above_the_last_one_that_the_rate_does_not_allow(
    max_fpr: float | None, expected: float
) -> None:
    assert score_threshold(calibration(), max_fpr) == expected


def test_a_rate_of_one_flags_everything_that_is_above_the_lowest_score() -> None:
    assert score_threshold(calibration(), 1.0) == above(1)


@pytest.mark.parametrize("max_fpr", [0.0, 1e-6, 0.05, 0.0999])
def test_a_rate_that_nine_scores_cannot_promise_is_refused_with_the_smallest_that_they_can(max_fpr: float) -> None:
    with pytest.raises(UnreachableRate) as refused:
        score_threshold(calibration(), max_fpr)

    assert refused.value.detail == (
        f"max_fpr={max_fpr} is below 0.1, the smallest rate that 9 calibration scores can promise"
    )


def test_the_smallest_rate_that_is_named_is_rounded_up_so_that_it_works() -> None:
    six = Calibration(score="any", target_fpr=0.2, threshold=1.0, scores=(0.0,) * 6)

    with pytest.raises(UnreachableRate, match=r"max_fpr=0\.1 is below 0\.142858, .* that 6 calibration"):
        score_threshold(six, 0.1)

    assert score_threshold(six, 0.142858) == above(0.0)


@pytest.mark.parametrize(
    ("max_fpr", "expected"),
    [(None, above(80)), (0.2, above(80)), (0.1, above(90)), (0.05, above(90)), (1e-9, above(90)), (0.5, above(50))],
)
def test_a_place_in_a_map_is_unusual_above_the_peaks_that_the_rate_allows(
    max_fpr: float | None, expected: float
) -> None:
    assert map_threshold(calibration(), max_fpr) == expected


def test_without_a_rate_that_of_the_manifest_holds_for_maps() -> None:
    assert map_threshold(calibration(target_fpr=0.4), None) == above(60)


def test_a_calibration_without_peaks_says_nothing_of_places() -> None:
    assert map_threshold(calibration(peaks=()), 0.2) is None
