"""From anomaly scores of normal images to a threshold that flags a known share of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from service.manifest import Calibration, Metric
from training.export import run_graph
from training.graphs import Score
from training.loop import to_pixels
from training.metrics import CHUNK
from training.run import CALIBRATION, GRAPHS, Run


def calibrate(run: Run, *, progress: bool = True) -> None:
    """Score the calibration images with the exported graph and keep the calibration in `calibration.json`.

    Also measures which share of the test images, all normal, the threshold flags.
    """
    run.read(GRAPHS, "export")
    graph = run.path("anomaly.onnx")
    target = run.recipe.target_fpr
    calibration = calibration_of(anomaly_scores(graph, run.data.calibration, progress=progress), target)
    test_scores = anomaly_scores(graph, run.data.test, progress=progress)
    flagged = sum(score >= calibration.threshold for score in test_scores) / len(test_scores)
    metric = Metric(
        name="false_positive_rate",
        task="anomaly",
        value=flagged,
        unit="share of images",
        data=f"{len(run.data.test)} test images of {run.data.name}, all normal",
        higher_is_better=False,
        baselines={"asked for": target},
    )
    run.write(CALIBRATION, {"calibration": calibration.model_dump(), "metrics": [metric.model_dump()]})


def anomaly_scores(
    graph: Path, images: UInt8[Tensor, "image channel height width"], *, progress: bool = False
) -> list[float]:
    """The score of every image by the graph that will be served, in order."""
    scores: list[float] = []
    for chunk in tqdm(torch.split(images, CHUNK), desc="score", unit="batch", disable=not progress):
        score, _ = run_graph(graph, to_pixels(chunk).numpy())
        scores += score.tolist()
    return scores


def calibration_of(scores: Sequence[float], target_fpr: float) -> Calibration:
    """The calibration that flags about `target_fpr` of images like those that gave `scores`.

    The threshold is the smallest calibration score whose conformal p-value is at most `target_fpr`. With fewer than
    1 / target_fpr - 1 scores there is none; the threshold then lies just above the largest, and `too_few` says so.
    """
    ascending = np.sort(np.asarray(scores, np.float64))
    n = len(ascending)
    at_or_above = n - np.searchsorted(ascending, ascending, side="left")
    p_values = (1 + at_or_above) / (n + 1)
    fit = ascending[p_values <= target_fpr]
    threshold = fit[0] if len(fit) else np.nextafter(np.float32(ascending[-1]), np.float32(np.inf))
    return Calibration(
        score=Score.description, target_fpr=target_fpr, threshold=float(threshold), scores=tuple(ascending.tolist())
    )


def too_few(calibration: Calibration) -> str | None:
    """The sentence for the card where there are too few calibration images for the rate that was asked for."""
    n = len(calibration.scores)
    if n + 1 >= 1 / calibration.target_fpr:
        return None
    return (
        f"Only {n} images were kept for calibration: a false-positive rate of {calibration.target_fpr:g} needs at "
        f"least {int(np.ceil(1 / calibration.target_fpr)) - 1}, the best that {n} can promise is {1 / (n + 1):.3g}."
    )
