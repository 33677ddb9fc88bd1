"""`python -m benchmarks.models anomaly-few`: what a few labelled defects add."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.models.anomaly_sets import CASES, NO_RANKING, Shown, scores_of
from benchmarks.page import table
from training.anomaly.known import compare_with
from training.anomaly.learn import learn_detector
from training.images.pixels import to_pixels
from training.measure.anomaly import auroc

COUNTS = (5, 10)  # defects that are known
DRAWS = 3  # of them


def few(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Teach random defects, and test on the others. Yield a table of AUROC without and with them, first seed."""
    rows: list[list[str]] = []
    gains: list[list[float]] = []
    for name, case_of in CASES.items():
        if name in NO_RANKING:
            continue
        shown = Shown(case_of(data, seeds[0]))
        config = shown.recipe.detector
        learnt = learn_detector(shown.taught, shown.case.groups, config, seed=seeds[0], progress=False)
        detector = learnt.detector
        plain = [scores_of(detector, to_pixels(images)) for images in (shown.good, shown.defects)]
        row, gained = [name], []
        for count in COUNTS:
            before, after, used = [], [], 0
            for draw in range(DRAWS):
                order = np.random.default_rng(draw).permutation(len(shown.defects))
                known, rest = order[:count].tolist(), order[count:].tolist()
                taught = compare_with(learnt, shown.taught, shown.defects[known], seed=draw)
                before.append(auroc(plain[0], plain[1][rest]))
                after.append(before[-1])
                if taught.is_better:
                    used += 1
                    detector.known = taught.known
                    good, bad = (to_pixels(images) for images in (shown.good, shown.defects[rest]))
                    after[-1] = auroc(scores_of(detector, good), scores_of(detector, bad))
                    detector.known = None
            row += [f"{np.mean(before):.3f}", f"{np.mean(after):.3f}", f"{used} of {DRAWS}"]
            gained.append(float(np.mean(after) - np.mean(before)))
        tqdm.write(" ".join(row))
        rows.append(row)
        gains.append(gained)
    means = [f"{gain:+.4f}" for gain in np.mean(gains, axis=0)]
    rows.append(["mean gain", *(cell for mean in means for cell in ("", mean, ""))])
    head = ["AUROC of images", *(cell for n in COUNTS for cell in (f"without {n}", f"with {n} known", "used"))]
    yield (
        f"Random defects are known, and all others are the test: {DRAWS} draws, one training. Where known defects are "
        "not used, the model stays as it is.\n\n" + table(head, rows)
    )
