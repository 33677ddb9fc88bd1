"""P-values and thresholds of scores and maps from a calibration."""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from service.contract.sections import Calibration
from service.errors import UnreachableRate


def p_value(score: float, calibration: Sequence[float]) -> float:
    """Return the conformal p-value of a score: (1 + calibration scores at or above it) / (n + 1).

    For a normal image it is at most p with a probability of at most p, for any p (Vovk, Gammerman and Shafer,
    Algorithmic Learning in a Random World, 2005).

    Args:
        score: Score of the image.
        calibration: Scores of n normal images that the model was not trained on, ascending.
    """
    above = len(calibration) - bisect_left(calibration, score)
    return (1 + above) / (len(calibration) + 1)


def smallest_rate(calibration: Calibration) -> float:
    """Return the smallest false-positive rate that n calibration scores guarantee, 1 / (n + 1)."""
    return 1 / (len(calibration.scores) + 1)


def score_threshold(calibration: Calibration, max_fpr: float | None) -> float:
    """Return the smallest anomalous score, so that at most about `max_fpr` of normal images are anomalous.

    Args:
        calibration: Calibration of the model.
        max_fpr: False-positive rate in (0, 1); None for the threshold of the manifest.

    Raises:
        UnreachableRate: The calibration is too small for this rate.
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
    """Return the smallest anomalous value of a map: at most about `max_fpr` of normal images reach it anywhere.

    If the calibration is too small for the rate, none of its images reaches it.

    Args:
        calibration: Calibration of the model.
        max_fpr: False-positive rate in (0, 1); None for the rate of the manifest.

    Returns:
        The threshold, or None for a model that was calibrated without map peaks.
    """
    peaks = calibration.map_peaks
    if not peaks:
        return None
    allowed = max(0, _allowed(len(peaks), calibration.target_fpr if max_fpr is None else max_fpr))
    return _just_above(peaks[len(peaks) - 1 - allowed])


def _allowed(n: int, max_fpr: float) -> int:
    """Return how many of n calibration values may reach the threshold; -1 if n is too small for the rate."""
    return min(math.floor(max_fpr * (n + 1) + 1e-9), n) - 1


def _just_above(value: float) -> float:
    """Return the next larger float32, the type of scores and maps."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
