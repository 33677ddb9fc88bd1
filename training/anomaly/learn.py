"""From good images to a detector, and what it would have said of each of them had it not learnt from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Real
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.anomaly.backbone import Lite0
from training.anomaly.bank import coreset
from training.anomaly.detector import Detector, Neighbours, Positions, Projection, pooled, tops
from training.anomaly.features import Gradients
from training.config import Section
from training.images.pixels import to_pixels
from training.randomness import generator_for

FEATURES: dict[str, Callable[[], nn.Module]] = {"gradients": Gradients, "lite0": Lite0}
SMALL_SIDE = 64  # pixels; grey images up to this size need no backbone
CHUNK = 8  # images at once through the features and the bank
FOLDS = 10  # detectors that each leave out a tenth of the images
PATCHES = 400_000  # positions of good images that the bank is chosen from: all of 390 images of 256x256
SAMPLED = 40_000  # positions that the projection is learnt from
POSITION_DIRECTIONS = 24  # of the features, in the Gaussian of every position
POSITION_PRIOR = 10.0  # images: as if so many had shown that all positions are alike
POSITION_SHRINKAGE = 0.01
LOW = 0.1  # quantile over positions: ground that is always the same says nothing about the part on it
TOLD_LEAST, TOLD_MOST = 0.5, 1.0  # nats per direction from which on positions count at all, and as much as others

Images = Real[Tensor, "_ channel height width"]
FeatureMaps = Float[Tensor, "_ feature rows columns"]


class DetectorConfig(Section):
    """How a detector is learnt: `bank` features of good images are kept, in at most `dimensions` numbers each.

    `features` "auto" is gradients for grey images of at most 64 pixels a side, and lite0 for all others.
    """

    features: Literal["auto", "gradients", "lite0"] = "auto"
    """gradients or lite0; auto: gradients for grey images of at most 64 pixels a side, lite0 for all others."""
    dimensions: PositiveInt = 128
    """Principal directions kept of the features, at most."""
    bank: PositiveInt = 3000
    """Stored features of good images."""


@dataclass(frozen=True)
class Learnt:
    """A detector that all images taught, and of each the score and map of one that it did not teach.

    `scores` (N,) and `maps` (N,H,W) are in the order of the images.
    """

    detector: Detector
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


@torch.no_grad()
def learn_detector(
    images: Images, groups: Sequence[str], config: DetectorConfig, *, seed: int, progress: bool = True
) -> Learnt:
    """A detector in evaluation mode on the CPU; the same images and seed give the same weights on one machine.

    Every image teaches and calibrates (cross-conformal, Vovk 2015, https://doi.org/10.1007/s10472-013-9368-4): a tenth
    of the groups at a time is scored by a detector that the others taught.

    Args:
        images: Good ones, bytes or pixels, at least two.
        groups: Of each, what must not be on both sides of a fold: several images of one part. At least two.
        config: See `DetectorConfig`.
        seed: Of everything random.
        progress: Whether bars are shown.
    """
    features = build_features(config, images).eval()
    found = feature_maps(features, images, progress=progress)
    return learn_from_features(features, found, groups, images.shape[2:], config, seed=seed, progress=progress)


@torch.no_grad()
def learn_from_features(
    features: nn.Module,
    found: FeatureMaps,
    groups: Sequence[str],
    size: Sequence[int],
    config: DetectorConfig,
    *,
    seed: int,
    progress: bool,
) -> Learnt:
    """As `learn_detector`, from what `features` are of the images, which are of `size` (height, width)."""
    projection = fit_projection(found, config.dimensions, generator_for(seed, 1))
    f = torch.cat([projection(part) for part in torch.split(found, CHUNK)])
    fold_of = folds_of(groups, generator_for(seed, 2))
    maps, told = torch.empty(len(f), len(Detector.evidence), *f.shape[2:]), []
    for fold in tqdm(range(int(fold_of.max()) + 1), desc="folds", unit="fold", disable=not progress):
        out = fold_of == fold
        neighbours, positions = fit_neighbours(f[~out], config.bank, generator_for(seed, 3)), fit_positions(f[~out])
        near = torch.cat([neighbours(part) for part in torch.split(f[out], CHUNK)])
        maps[out] = torch.stack([near, positions(f[out])], dim=1)
        told.append(told_by_positions(positions, f[~out], f[out]))
    neighbours = fit_neighbours(f, config.bank, generator_for(seed, 3))
    detector = Detector(features, projection, neighbours, fit_positions(f)).eval().requires_grad_(False)
    detector.level.copy_(maps.mean(dim=(0, 2, 3)))
    detector.height.copy_(torch.maximum(tops(maps).mean(0), detector.level + 1e-6))
    share = (float(np.mean(told)) - TOLD_LEAST) / (TOLD_MOST - TOLD_LEAST)
    weights = torch.tensor([1.0, min(max(share, 0.0), 1.0)])
    detector.weights.copy_(weights / weights.sum())
    joined = detector.join(maps)
    of_good = pooled(joined)
    detector.centre.copy_(of_good.mean(0))
    detector.scale.copy_(of_good.std(0).clamp_min(1e-6))
    whole = detector.enlarged(joined, (int(size[0]), int(size[1])))
    return Learnt(detector, detector.score(joined).numpy(), whole.numpy())


def build_features(config: DetectorConfig, images: Images) -> nn.Module:
    """The features that the configuration asks for, or that suit the images."""
    name = config.features
    if name == "auto":
        _, channels, height, width = images.shape
        name = "gradients" if channels == 1 and max(height, width) <= SMALL_SIDE else "lite0"
    return FEATURES[name]()


@torch.no_grad()
def feature_maps(features: nn.Module, images: Images, *, progress: bool = False) -> FeatureMaps:
    """What the features are of every image, (N,D,h,w)."""
    chunks = tqdm(torch.split(images, CHUNK), desc="features", unit="batch", disable=not progress)
    return torch.cat([features(to_pixels(chunk)) for chunk in chunks])


def folds_of(groups: Sequence[str], generator: Generator) -> Int64[Tensor, " image"]:
    """The fold of every image; groups stay whole, and folds are about as large as each other."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    names = list(members)
    fold_of, sizes = torch.zeros(len(groups), dtype=torch.int64), [0] * min(FOLDS, len(names))
    for number in torch.randperm(len(names), generator=generator).tolist():
        smallest = sizes.index(min(sizes))
        fold_of[members[names[number]]] = smallest
        sizes[smallest] += len(members[names[number]])
    return fold_of


def fit_projection(found: FeatureMaps, dimensions: int, generator: Generator) -> Projection:
    """Onto the principal directions, as long as they are: distances stay what they were, but for what is left out."""
    sample = sampled(found, SAMPLED, generator).double()
    mean = sample.mean(0)
    _, directions = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    kept = min(dimensions, sample.shape[1])
    return Projection(mean.float(), directions.flip(1)[:, :kept].T.float().contiguous())


def fit_neighbours(f: FeatureMaps, entries: int, generator: Generator) -> Neighbours:
    """A bank that lies close to all features of these images."""
    return Neighbours(coreset(sampled(f, PATCHES, generator), entries, generator))


def fit_positions(f: FeatureMaps) -> Positions:
    """A Gaussian at every position, over the leading directions; with few images nearer to that of all positions.

    Covariances are those of a position and the eight around it, as thing and camera move a little. Where the mean is
    drawn towards that of all positions, the way it was drawn counts as spread.
    """
    x = f[:, :POSITION_DIRECTIONS].double()
    images, kept, rows, columns = x.shape
    unit = x.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-6)  # (D,): directions count the same
    x = x / unit[:, None, None]
    share = images / (images + POSITION_PRIOR)  # of what the position itself has shown
    mean = x.mean(0)
    at = (x - mean).permute(2, 3, 1, 0)  # (h, w, D, N)
    covariance = (at @ at.mT / images).reshape(rows, columns, kept * kept).permute(2, 0, 1)
    around = F.avg_pool2d(F.pad(covariance[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
    mixed = share * around + (1 - share) * around.mean(dim=(1, 2), keepdim=True)
    drawn = (1 - share) * (mean.mean(dim=(1, 2), keepdim=True) - mean)
    moved = drawn.permute(1, 2, 0).reshape(rows * columns, kept, 1)
    spread = mixed.permute(1, 2, 0).reshape(rows * columns, kept, kept) + moved @ moved.mT
    variances, directions = torch.linalg.eigh(spread + POSITION_SHRINKAGE * torch.eye(kept))
    whiten = (directions / variances[:, None].sqrt()).mT / unit  # (hw, D, D)
    return Positions(((mean + drawn) * unit[:, None, None]).float(), whiten.float().contiguous())


def told_by_positions(positions: Positions, taught: FeatureMaps, out: FeatureMaps) -> float:
    """How much more likely held-out images are at their positions than at any: nats per direction of the features.

    It is a low quantile over positions, as the ground around a part gains even where the part lies in any pose. Drawn
    parts in any pose and drawn surfaces gain 0.1 to 0.3, parts in a fixed pose 1.4 (`tests/training/parts.py`).

    Args:
        positions: A Gaussian at every position, of the images that taught.
        taught: Projected features of those images; one Gaussian of all their positions is what is compared with.
        out: Of the images left out.
    """
    kept = len(positions.mean)
    rows = taught[:, :kept].movedim(1, 3).reshape(-1, kept).double()
    mean, covariance = rows.mean(0), rows.T.cov(correction=0)
    covariance += POSITION_SHRINKAGE * covariance.diagonal().diag()
    centred = out[:, :kept].movedim(1, 3).double() - mean
    square = torch.einsum("nhwk,kd,nhwd->nhw", centred, torch.linalg.inv(covariance), centred)
    anywhere = -0.5 * square - 0.5 * torch.logdet(covariance)
    volumes = torch.linalg.slogdet(positions.whiten.double())[1].reshape(anywhere.shape[1:])
    at_position = volumes - 0.5 * kept * positions(out).double().square()
    return float((at_position - anywhere).flatten(1).quantile(LOW, dim=1).mean()) / kept


def sampled(maps: FeatureMaps, count: int, generator: Generator) -> Float[Tensor, "position feature"]:
    """At most `count` positions of all maps, drawn without repetition."""
    flat = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    if len(flat) <= count:
        return flat
    return flat[torch.randperm(len(flat), generator=generator)[:count]]
