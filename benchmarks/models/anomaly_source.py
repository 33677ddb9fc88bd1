"""`python -m benchmarks.models anomaly-source`: how well the features of a whole picture tell another source."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from benchmarks.models.anomaly_sets import CASES, Shown
from benchmarks.page import table
from service.contract.likeness import DISTANCE, unlike_in_looks
from training.anomaly.backbone import Lite0
from training.anomaly.kind import Kind, fit_kind, held_out_distances
from training.anomaly.learn import CHUNK, folds_of
from training.images.pixels import stack, to_pixels
from training.images.reader import read_image

FEW = 10  # pictures of each other set


def source(data: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Compare pictures with the training pictures of each set by `distance` alone. Yield a table, first seed."""
    cases = {name: case_of(data, seeds[0]) for name, case_of in CASES.items()}
    features, rows = Lite0(), []
    for name, case in cases.items():
        shown = Shown(case)
        means = _means(features, shown.taught)
        distances = held_out_distances(means, folds_of(case.groups))
        kind, learnt = fit_kind(means), {DISTANCE: (float(distances.min()), float(distances.max()))}
        others = [path for other in cases if other != name for path in _spread(cases[other].taught)]
        seen = stack([read_image(path, shown.config) for path in others])
        shares = [_share_unlike(kind, learnt, _means(features, images)) for images in (shown.good, shown.defects, seen)]
        rows.append([name, *(f"{share:.3f}" for share in shares)])
        tqdm.write(" ".join(rows[-1]))
    yield (
        f"Share of pictures whose `features` count as unlike the training pictures, with one seed: held-out good ones, "
        f"defective ones, and {FEW} training pictures of each other set, as the model would see them.\n\n"
        + table(["", "good", "defective", "another source"], rows)
    )


def _spread(paths: Sequence[Path]) -> list[Path]:
    return [paths[i] for i in np.linspace(0, len(paths) - 1, FEW).round().astype(int)]


@torch.no_grad()
def _means(features: Lite0, images: Tensor) -> Float[Tensor, "image feature"]:
    return torch.cat([features(to_pixels(part))[0].mean(dim=(2, 3)) for part in torch.split(images, CHUNK)])


def _share_unlike(kind: Kind, learnt: dict[str, tuple[float, float]], means: Float[Tensor, "image feature"]) -> float:
    found = kind.distance(means).tolist()
    return float(np.mean([bool(unlike_in_looks({DISTANCE: distance}, learnt)) for distance in found]))
