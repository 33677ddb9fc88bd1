"""`python -m benchmarks.models anomaly-ignore`: verdicts while a fifth of every picture is ignored."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from benchmarks.models.anomaly_sets import CASES, NO_RANKING, Shown, scores_of
from benchmarks.page import table
from training.anomaly.learn import learn_detector
from training.calibration import conformal_threshold
from training.images.pixels import to_pixels
from training.measure.anomaly import auroc

ASKED = 0.05  # rate of false alarms
HIDDEN = 0.2  # share of every picture
HEIGHTS = (0.25, 0.7)  # of the rectangle, in heights of the picture
MOST = 60  # good pictures and defective ones of a set, evenly spaced


def ignore(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Hide a random rectangle of every held-out picture. Yield a table of verdicts without and with it, first seed."""
    rows = []
    for name, case_of in CASES.items():
        shown = Shown(case_of(data, seeds[0]))
        config = shown.recipe.detector
        learnt = learn_detector(shown.taught, shown.case.groups, config, seed=seeds[0], progress=False)
        threshold = conformal_threshold(learnt.scores, ASKED)
        rng = np.random.default_rng(0)
        plain, hidden = [], []
        for images in (_some(shown.good), _some(shown.defects)):
            x = to_pixels(images)
            plain.append(scores_of(learnt.detector, x))
            hidden.append(scores_of(learnt.detector, _with_holes(x, rng)))
        flagged = [f"{np.mean(scores[0] >= threshold):.3f}" for scores in (plain, hidden)]
        ranks = ["-" if name in NO_RANKING else f"{auroc(*scores):.3f}" for scores in (plain, hidden)]
        row = [name, f"{len(plain[0])} / {len(plain[1])}", *flagged, f"{np.median(hidden[0] - plain[0]):+.2f}", *ranks]
        tqdm.write(" ".join(row))
        rows.append(row)
    head = ["", "good / defective", "good flagged", "with holes", "change of the median", "AUROC", "with holes"]
    yield (
        f"A random rectangle of {HIDDEN:.0%} of each held-out picture is ignored, which may hide its defect. One seed, "
        f"at most {MOST} good and {MOST} defective pictures, target rate {ASKED:g}. The change is that of the median "
        "score of good pictures, in standard deviations of the training ones.\n\n" + table(head, rows)
    )


def _some(images: Tensor) -> Tensor:
    return images[np.unique(np.linspace(0, len(images) - 1, min(MOST, len(images))).round().astype(int)).tolist()]


def _with_holes(x: Float[Tensor, "n c h w"], rng: np.random.Generator) -> Float[Tensor, "n c h w"]:
    x, (height, width) = x.clone(), x.shape[2:]
    for image in x:
        rows = round(height * rng.uniform(*HEIGHTS))
        columns = min(round(HIDDEN * height * width / rows), width - 8)
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        image[:, top : top + rows, left : left + columns] = torch.nan
    return x
