"""From a calibration to decisions: p-values, and the thresholds of scores and maps."""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from service.contract.sections import Calibration
from service.errors import UnreachableRate


def p_value(score: float, calibration: Sequence[float]) -> float:
    """Return the conformal p-value of a score: (1 + calibration scores at or above it) / (n + 1).

    (1 + number of calibration scores at or above `score`) / (n + 1): for a normal image it is below any p with
    probability at most p (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005).

    Args:
        score: Score of the image.
        calibration: Scores of n normal images the model has not seen, ascending.
    """
    above = len(calibration) - bisect_left(calibration, score)
    return (1 + above) / (len(calibration) + 1)


def smallest_rate(calibration: Calibration) -> float:
    """Return the smallest false-positive rate that the calibration can promise, 1 / (n + 1)."""
    return 1 / (len(calibration.scores) + 1)


def score_threshold(calibration: Calibration, max_fpr: float | None) -> float:
    """Return the score from which an image is anomalous, so that at most about `max_fpr` of normal images are.

    Args:
        calibration: Calibration of the model.
        max_fpr: None for the manifest's own threshold.

    Raises:
        UnreachableRate: There are too few calibration scores to promise so low a rate.
    """
    if max_fpr is None:
        return calibration.threshold
    n, smallest = len(calibration.scores), smallest_rate(calibration)
    if (allowed := _allowed(n, max_fpr)) < 0:
        rounded_up = math.ceil(smallest * 1e6) / 1e6
        raise UnreachableRate(
            f"max_fpr={max_fpr} is below {rounded_up:g}, the smallest rate that {n} calibration scores can promise"
        )
    return _just_above(calibration.scores[n - 1 - allowed])


def map_threshold(calibration: Calibration, max_fpr: float | None) -> float | None:
    """Return the value from which a place in a map is unusual: at most about `max_fpr` of normal images have one.

    Where the calibration is too small for the rate, no normal image of it has.

    Args:
        calibration: Calibration of the model.
        max_fpr: None for the manifest's own rate.

    Returns:
        None if the model was calibrated without the peaks of its maps.
    """
    peaks = calibration.map_peaks
    if not peaks:
        return None
    allowed = max(0, _allowed(len(peaks), calibration.target_fpr if max_fpr is None else max_fpr))
    return _just_above(peaks[len(peaks) - 1 - allowed])


def _allowed(n: int, max_fpr: float) -> int:
    """Return how many of n calibration values may lie at or above a threshold; -1 for a rate that n cannot promise."""
    return min(math.floor(max_fpr * (n + 1) + 1e-9), n) - 1


def _just_above(value: float) -> float:
    """Return the next larger float32, as scores and maps are float32."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
