"""Known defects: a detector that also compares with a few of them, if cross-validation finds that better."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomaly.bank import coreset
from training.anomaly.detector import Detector, Evidence, Neighbours, top_mean
from training.anomaly.ignore import left_out
from training.anomaly.learn import CHUNK, SAMPLED, Learnt, sampled
from training.anomaly.whitening import fit_whitening
from training.images.pixels import to_pixels
from training.randomness import generator_for

FEWEST = 5  # images with defects
FOLDS = 5  # each left out once, to judge the comparison
ENTRIES = 500  # of the bank of defects, at most
SHRINKAGE = 0.1  # of the mean variance

Images = Real[Tensor, "_ channel height width"]
Ignored = Bool[Tensor, "_ height width"]
Maps = Float[Tensor, "_ rows columns"]
FeatureMaps = Float[Tensor, "_ feature rows columns"]
Scores = NDArray[np.float32]


class Known(nn.Module):
    """Average a score with how much nearer an image is to known defects than to good images.

    Per position, that is the standardised distance from good images less the standardised one from known defects. The
    mean of its highest 1 % is compared with that of good images.

    Args:
        mean: (K,), of good features.
        whiten: (K,K); whitens good features, so that what varies among them counts little.
        bank: (M,K), whitened features of defects.
    """

    mean: Tensor
    whiten: Tensor
    level: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        mean: Float[Tensor, " feature"],
        whiten: Float[Tensor, "feature feature"],
        bank: Float[Tensor, "entry feature"],
    ) -> None:
        super().__init__()
        self.near = Neighbours(bank)
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)
        for name, value in (("level", 0.0), ("spread", 1.0), ("centre", 0.0), ("scale", 1.0)):
            self.register_buffer(name, torch.tensor(value))

    def forward(
        self, score: Float[Tensor, " image"], f: FeatureMaps, near: Maps, ignored: Ignored
    ) -> Float[Tensor, " image"]:
        return self.averaged(score, top_mean(left_out(self.nearer(f, near), ignored)))

    def averaged(self, score: Float[Tensor, " image"], top: Float[Tensor, " image"]) -> Float[Tensor, " image"]:
        """Return the mean of scores and `top`, the latter in standard deviations of good images."""
        return (score + (top - self.centre) / self.scale) / 2

    def nearer(self, f: FeatureMaps, near: Maps) -> Maps:
        """Return the standardised distance from good images less that from known defects, per position."""
        return near - (self.distance(f) - self.level) / self.spread

    def distance(self, f: FeatureMaps) -> Maps:
        """Return the distance of every position from the nearest known defect."""
        distance: Tensor = self.near(whitened(f, self.mean, self.whiten))
        return distance


def whitened(f: FeatureMaps, mean: Float[Tensor, " feature"], whiten: Float[Tensor, "feature feature"]) -> FeatureMaps:
    """Return features in which good ones have unit covariance."""
    return F.conv2d(f - mean[:, None, None], whiten[:, :, None, None])


@dataclass(frozen=True)
class Taught:
    """A comparison with known defects, and what cross-validation says of it.

    `good` and `defects` are scores with it, each of a defect by a detector without it. `gain` is the mean difference in
    the share of good images below a defect, `error` its standard error.
    """

    known: Known
    good: Scores
    defects: Scores
    gain: float
    error: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is clear: positive, and at least its standard error."""
        return self.gain > 0 and self.gain >= self.error


@torch.no_grad()
def compare_with(learnt: Learnt, images: Images, defects: Images, *, seed: int) -> Taught:
    """Fit a comparison with known defects. Leave the detector as it is.

    Args:
        learnt: The detector and held-out outputs for its images.
        images: The good images that it was trained on, in their order.
        defects: Images with defects, at least `FEWEST`.
        seed: Seed of the folds and the bank.
    """
    detector = learnt.detector
    f, bad = _features(detector, images), _features(detector, defects)
    near, score = torch.from_numpy(learnt.near), torch.from_numpy(learnt.scores)
    evidence = _evidence(detector, bad)
    bad_score = detector.score(evidence)
    mean, whiten = fit_whitening(sampled(f, SAMPLED, generator_for(seed, 5)).double(), SHRINKAGE)
    patches = _patches(whitened(bad, mean, whiten), evidence)

    def fit(kept: Tensor) -> tuple[Known, Tensor]:
        known = Known(mean, whiten, coreset(patches[kept].flatten(0, 1), ENTRIES, generator_for(seed, 6)))
        distance = torch.cat([known.distance(part) for part in torch.split(f, CHUNK)])
        known.level, known.spread = distance.mean(), distance.std().clamp_min(1e-6)
        top = top_mean(near - (distance - known.level) / known.spread)
        known.centre, known.scale = top.mean(), top.std().clamp_min(1e-6)
        return known, known.averaged(score, top)

    held_out, gains = torch.empty_like(bad_score), torch.empty_like(bad_score, dtype=torch.float64)
    fold_of = torch.randperm(len(bad), generator=generator_for(seed, 7)) % FOLDS
    for fold in range(FOLDS):
        out = fold_of == fold
        known, good = fit(~out)
        held_out[out] = known.averaged(bad_score[out], top_mean(known.nearer(bad[out], evidence.near[out])))
        gains[out] = _share_below(good, held_out[out]) - _share_below(score, bad_score[out])
    known, good = fit(torch.ones(len(bad), dtype=torch.bool))
    error = float(gains.std() / len(gains) ** 0.5)
    return Taught(known, good.numpy(), held_out.numpy(), float(gains.mean()), error)


def _features(detector: Detector, images: Images) -> FeatureMaps:
    return torch.cat(
        [detector.projection(detector.features(to_pixels(part))[0]) for part in torch.split(images, CHUNK)]
    )


def _evidence(detector: Detector, f: FeatureMaps) -> Evidence:
    """Return standardised maps by distance and by position; the one by texture is not needed."""
    parts = torch.split(f, CHUNK)
    near, place = (
        torch.cat([usual(module(part)) for part in parts])
        for usual, module in zip(detector.usual, (detector.near, detector.place), strict=False)
    )
    return Evidence(near, place, near)


def _patches(f: FeatureMaps, evidence: Evidence) -> Float[Tensor, "image position feature"]:
    """Return the features at the most unusual hundredth of each image."""
    unusual = (evidence.near + evidence.place).flatten(1)
    where = unusual.topk(max(1, unusual.shape[1] // 100), dim=1).indices  # (N, p)
    return f.flatten(2).transpose(1, 2).gather(1, where[:, :, None].expand(-1, -1, f.shape[1]))


def _share_below(good: Float[Tensor, " image"], scores: Float[Tensor, " defect"]) -> Float[Tensor, " defect"]:
    return (good < scores[:, None]).double().mean(1) + 0.5 * (good == scores[:, None]).double().mean(1)
