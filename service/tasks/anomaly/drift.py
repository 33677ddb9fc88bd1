"""Drift: how far recent scores are from those of calibration."""

import math
from collections.abc import Sequence

import numpy as np

from service.tasks.anomaly.thresholds import p_value


def drift(scores: Sequence[float], calibration: Sequence[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of recent scores from the calibration: 0 is equal, 1 is disjoint.

    The Kolmogorov-Smirnov distance of their p-values from uniform, the largest difference between the two cumulative
    distributions. `drift_by_chance` says how large it gets for images like those of the calibration.

    Args:
        scores: At least one.
        calibration: Scores of normal images, ascending.
    """
    p = np.sort([p_value(score, calibration) for score in scores])
    n = len(p)
    steps = np.arange(n + 1) / n
    return float(max((steps[1:] - p).max(), (p - steps[:-1]).max()))


def drift_by_chance(scores: int, calibration: int) -> float:
    """Return the 95 % quantile of `drift` without any change (Smirnov 1948, two samples).

    With few calibration images chance alone is large: 0.07 for 500 scores and 5000 images, 0.26 for 500 and 30.

    Args:
        scores: How many.
        calibration: How many scores of normal images.
    """
    return 1.36 * math.sqrt(1 / scores + 1 / calibration)
