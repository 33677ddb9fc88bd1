"""Drift of recent anomaly scores from those of the calibration."""

import math
from collections.abc import Sequence

import numpy as np

from service.tasks.anomaly.thresholds import p_value


def drift(scores: Sequence[float], calibration: Sequence[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of recent scores from the calibration: 0 is equal, 1 is disjoint.

    It is the largest difference between the two cumulative distributions. Compare it with `drift_by_chance`, its size
    for images like those of the calibration.

    Args:
        scores: Recent scores, at least one.
        calibration: Calibration scores of normal images, ascending.
    """
    p = np.sort([p_value(score, calibration) for score in scores])
    n = len(p)
    steps = np.arange(n + 1) / n
    return float(max((steps[1:] - p).max(), (p - steps[:-1]).max()))


def drift_by_chance(scores: int, calibration: int) -> float:
    """Return the 95 % quantile of `drift` between samples of one distribution (Smirnov 1948).

    It is large for small calibrations: 0.07 for 500 scores and 5000 calibration images, 0.26 for 500 and 30.

    Args:
        scores: Number of recent scores.
        calibration: Number of calibration scores.
    """
    return 1.36 * math.sqrt(1 / scores + 1 / calibration)
