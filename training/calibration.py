"""Calibration: anomaly scores of normal images, and a threshold that flags a known share of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import Metric
from service.contract.sections import Calibration, Learnt
from training.anomaly.aligned import AlignedDetector
from training.config import Recipe
from training.images.dataset import Dataset
from training.images.pixels import to_pixels
from training.run import CALIBRATION, GRAPHS, Run

OneSizeRun = Run[Recipe, Dataset]
CHUNK_PIXELS = 1_000_000  # at once through the graph: 15 images of 256x256, or 1275 of 28x28


@dataclass(frozen=True)
class Answers:
    """Outputs of a graph for images, in their order: scores, and the largest value of each map."""

    scores: NDArray[np.float32]
    peaks: NDArray[np.float32]


def calibrate(run: OneSizeRun, *, progress: bool = True) -> None:
    """Score the calibration images with the exported graph and write `calibration.json`.

    Also measure the share of test images, all normal, that the threshold flags.
    """
    run.read(GRAPHS, "export")
    graph = run.path("anomaly.onnx")
    target = run.recipe.target_fpr
    answers = answers_of(graph, run.data.calibration, progress=progress)
    calibration = calibration_of(answers, target, score=AlignedDetector.description)
    metric = false_positive_rate(
        calibration, answers_of(graph, run.data.test, progress=progress), data=f"test images of {run.data.name}"
    )
    run.write(CALIBRATION, {"calibration": calibration.model_dump(), "metrics": [metric.model_dump()]})


def answers_of(graph: Path, images: Real[Tensor, "image channel height width"], *, progress: bool = False) -> Answers:
    """Return the score and the map's peak of every image, computed by the exported graph."""
    scores, peaks = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    chunks = torch.split(images, max(1, CHUNK_PIXELS // images[0, 0].numel())) if len(images) else ()
    for chunk in tqdm(chunks, desc="score", unit="batch", disable=not progress):
        score, anomaly_map = session.run(["score", "map"], {"x": to_pixels(chunk).numpy()})
        scores.append(score)
        peaks.append(anomaly_map.max(axis=(1, 2)))
    return Answers(np.concatenate(scores), np.concatenate(peaks))


def false_positive_rate(calibration: Calibration, answers: Answers, *, data: str) -> Metric:
    """Return the share of normal images that the threshold flags, with the target as its baseline."""
    return Metric(
        name="false_positive_rate",
        task="anomaly",
        value=float(np.mean(answers.scores >= calibration.threshold)),
        unit="share of images",
        data=f"{len(answers.scores)} {data}, all normal",
        higher_is_better=False,
        baselines={"asked for": calibration.target_fpr},
    )


def calibration_of(
    answers: Answers, target_fpr: float, *, score: str, learnt: Learnt | None = None, takes_nan: bool = False
) -> Calibration:
    """Make the calibration that flags about `target_fpr` of images like those that gave `answers`.

    Args:
        answers: Answers to good images that the detector has not learnt from.
        target_fpr: Share of good images that may be flagged.
        score: Description of the score.
        learnt: Ranges of the training images.
        takes_nan: Whether the graph ignores pixels that are NaN.
    """
    return Calibration(
        score=score,
        target_fpr=target_fpr,
        threshold=conformal_threshold(answers.scores, target_fpr),
        scores=tuple(np.sort(answers.scores.astype(np.float64)).tolist()),
        map_peaks=tuple(np.sort(answers.peaks.astype(np.float64)).tolist()),
        learnt=learnt,
        takes_nan=takes_nan,
    )


def conformal_threshold(values: NDArray[np.floating] | Sequence[float], rate: float) -> float:
    """Return the smallest float32 whose conformal p-value among the values is at most `rate`: just above one of them.

    A new value of the same distribution reaches it with a probability of at most `rate`, and of hardly less. Fewer
    than 1 / rate - 1 values cannot guarantee that; the threshold is then just above the largest, and `too_few` returns
    a warning. The service moves the threshold for `max_fpr` in the same way.
    """
    ascending = np.sort(np.asarray(values, np.float32))
    n = len(ascending)
    allowed = min(int(np.floor(rate * (n + 1) + 1e-9)), n) - 1  # values that may lie at or above it
    return float(np.nextafter(ascending[n - 1 - max(0, allowed)], np.float32(np.inf)))


def too_few(calibration: Calibration) -> str | None:
    """Return a warning for the card if there are too few calibration images for the target rate."""
    n = len(calibration.scores)
    if n + 1 >= 1 / calibration.target_fpr:
        return None
    return (
        f"Only {n} images were kept for calibration: a false-positive rate of {calibration.target_fpr:g} needs at "
        f"least {int(np.ceil(1 / calibration.target_fpr)) - 1}, the best that {n} can promise is {1 / (n + 1):.3g}."
    )
