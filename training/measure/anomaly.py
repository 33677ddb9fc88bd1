"""Metrics of detectors: exact AUROC, AUPRO and F1-max by ranks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

FPR_LIMIT = 0.3  # where AUPRO stops, as in the papers on MVTec AD


def auroc(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that an anomalous score is above a normal one, ties half.

    Args:
        normal: Scores of normal images or pixels, any shape, at least one.
        anomalous: Scores of anomalous images or pixels.
    """
    negatives = np.sort(np.asarray(normal).ravel())
    positives = np.asarray(anomalous).ravel()
    below = np.searchsorted(negatives, positives, "left")
    up_to = np.searchsorted(negatives, positives, "right")
    return float((below + up_to).mean() / (2 * len(negatives)))


def f1_max(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """Return the largest F1 that any threshold reaches.

    It is the F1 at the best threshold, which is not known in practice.
    """
    negatives, positives = np.sort(np.asarray(normal).ravel()), np.sort(np.asarray(anomalous).ravel())
    true = len(positives) - np.arange(len(positives))  # at the threshold of each positive, itself included
    false = len(negatives) - np.searchsorted(negatives, positives, "left")
    # Of equal positives the first one counts all of them, and its F1 is the largest.
    return float(np.max(2 * true / (true + false + len(positives))))


def aupro(maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]) -> float:
    """Return AUPRO: area under the per-region overlap for false-positive rates up to 0.3, as a share of the largest.

    Every connected region has the same weight, whatever its size (Bergmann et al. 2021,
    https://doi.org/10.1007/s11263-020-01400-4). The result is exact: a pixel of a region is detected at every rate
    above the share of normal pixels with its value or more.

    Args:
        maps: Anomaly maps, (H, W) each, of any sizes.
        masks: Masks of the defects, of the same sizes; all False in normal images. At least one region in total.
    """
    normal = np.sort(np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)]))
    overlaps: list[float] = []
    for values, mask in zip(maps, masks, strict=True):
        regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            inside = values[regions == number]
            at_or_above = len(normal) - np.searchsorted(normal, inside, "left")
            overlaps.append(float(np.maximum(0.0, FPR_LIMIT - at_or_above / len(normal)).mean()) / FPR_LIMIT)
    return float(np.mean(overlaps))


def pixel_auroc(maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]) -> float:
    """Return AUROC over the pixels of all images together."""
    normal = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
    return auroc(normal, np.concatenate([m[mask] for m, mask in zip(maps, masks, strict=True)]))
