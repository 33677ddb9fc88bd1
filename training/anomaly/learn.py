"""Training of a detector on good images, with cross-validated scores of the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Real
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.anomaly.backbone import Lite0
from training.anomaly.bank import coreset
from training.anomaly.detector import (
    TOP_SHARE,
    Detector,
    Evidence,
    Neighbours,
    Positions,
    Projection,
    Texture,
    Usual,
    joined,
    pooled,
)
from training.anomaly.features import Gradients
from training.anomaly.ignore import most_typical
from training.anomaly.kind import fit_kind, held_out_distances
from training.anomaly.look import Looking
from training.anomaly.whitening import fit_whitening, whitening
from training.config import Section
from training.images.pixels import to_bytes, to_pixels
from training.randomness import generator_for

FEATURES: dict[str, Callable[[], nn.Module]] = {"gradients": Gradients, "lite0": Lite0}
SMALL_SIDE = 64  # pixels; grey images up to this size need no backbone
CHUNK = 8  # images at once through the features and the bank
FOLDS = 10  # detectors that each leave out a tenth of the images
PATCHES = 400_000  # positions of good images that the bank is chosen from: all of 390 images of 256x256
SAMPLED = 40_000  # positions that the projection is learnt from
POSITION_DIRECTIONS = 48  # of the features, in the Gaussian of every position
POSITION_PRIOR = 10.0  # images, as if these had shown that all positions are alike
POSITION_SHRINKAGE = 0.01
LEAST_LENGTH = 0.001  # of the longest direction
TEXTURE_SHRINKAGE = 0.01  # of the mean variance
OWN_MEAN, OWN_VARIANCE = 0.7, 0.3  # shares of what a position has shown itself; the rest is of all positions
AROUND = 2  # positions in every direction whose means and deviations are pooled

Images = Real[Tensor, "_ channel height width"]
FeatureMaps = Float[Tensor, "_ feature rows columns"]
FineMaps = Float[Tensor, "_ fine_feature fine_rows fine_columns"]
Maps = Float[Tensor, "_ rows columns"]


class DetectorConfig(Section):
    """Options of training: `bank` features of good images are kept, projected to at most `dimensions` numbers each.

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
    """A detector trained on all images, with held-out outputs for the same images.

    `scores` (N,), `maps` (N,H,W), `distances` (N,) and `near` (N,h,w) are in the order of the images. `near` are the
    standardised maps by distance.
    """

    detector: Detector
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    distances: NDArray[np.float32]
    near: NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """Features of images: `coarse` (N,D,h,w) and `fine` (N,F,H',W'), the latter in 16 bits."""

    coarse: FeatureMaps
    fine: FineMaps

    def __getitem__(self, which: slice) -> "Found":
        return Found(self.coarse[which], self.fine[which])

    def __len__(self) -> int:
        return len(self.coarse)


@torch.no_grad()
def learn_detector(
    images: Images,
    groups: Sequence[str],
    config: DetectorConfig,
    *,
    seed: int,
    look: Bool[Tensor, "rows columns"] | None = None,
    progress: bool = True,
) -> Learnt:
    """Train a detector. Return it in evaluation mode on the CPU, with held-out scores.

    Every image is used for training and calibration (cross-conformal, Vovk 2015,
    https://doi.org/10.1007/s10472-013-9368-4): a tenth of the images at a time is scored by a detector trained on the
    others. The projection and the Gaussian of the fine features are fitted to all images, since they have some hundred
    thousand positions; only the projection affects the score. The same images and seed give the same weights on one
    machine.

    Args:
        images: Good images, bytes or pixels, at least two, in the order in which they were taken.
        groups: Group of each image, at least two. A group is never on both sides of a fold.
        config: See `DetectorConfig`.
        seed: Seed of all random numbers.
        look: (H,W), False at pixels to ignore; None uses whole images.
        progress: Show progress bars.
    """
    features = build_features(config, images).eval()
    if look is not None:
        features = Looking(features, look)
    found = feature_maps(features, images, progress=progress)
    return learn_from_features(features, found, groups, images, config, seed=seed, progress=progress)


@torch.no_grad()
def learn_from_features(
    features: nn.Module,
    found: Found,
    groups: Sequence[str],
    images: Images,
    config: DetectorConfig,
    *,
    seed: int,
    progress: bool,
) -> Learnt:
    """Train as `learn_detector` does, on features already computed from the images."""
    projection = fit_projection(found.coarse, config.dimensions, generator_for(seed, 1))
    f = _by_chunks(projection, found.coarse)
    texture = fit_texture(found.fine, generator_for(seed, 4))
    fold_of = folds_of(groups)
    near, place = (torch.empty(len(f), *f.shape[2:]) for _ in range(2))
    for fold in tqdm(range(int(fold_of.max()) + 1), desc="folds", unit="fold", disable=not progress):
        out = fold_of == fold
        near[out] = _by_chunks(fit_neighbours(f[~out], config.bank, generator_for(seed, 3)), f[out])
        place[out] = fit_positions(f[~out])(f[out])
    maps = (near, place, _by_chunks(texture, found.fine))
    arounds = [AROUND * (part.shape[1] // near.shape[1]) for part in maps]  # as much of the image in the finer one
    held_out = Evidence(*(torch.empty_like(part) for part in maps))
    for fold in range(int(fold_of.max()) + 1):
        out = fold_of == fold
        for part, standardised, around in zip(maps, held_out, arounds, strict=True):
            standardised[out] = fit_usual(part[~out], around)(part[out])
    detector = Detector(
        features,
        projection,
        near=fit_neighbours(f, config.bank, generator_for(seed, 3)),
        place=fit_positions(f),
        texture=texture,
        usual=[fit_usual(part, around) for part, around in zip(maps, arounds, strict=True)],
        kind=fit_kind(means := found.coarse.float().mean(dim=(2, 3))),
        reference=to_bytes(images[most_typical(f)]),
    )
    detector.eval().requires_grad_(False)
    of_good = pooled(held_out)
    detector.centre.copy_(of_good.mean(0))
    detector.scale.copy_(of_good.std(0).clamp_min(1e-6))
    whole = joined(held_out)
    detector.level.copy_(whole.mean())
    top = whole.flatten(1).topk(max(1, round(TOP_SHARE * whole[0].numel())), dim=1).values
    detector.height.copy_(torch.maximum(top.mean(), detector.level + 1e-6))
    shown = detector.map(held_out, (int(images.shape[2]), int(images.shape[3])))
    distances = held_out_distances(means, fold_of)
    scores = detector.score(held_out)
    return Learnt(detector, scores.numpy(), shown.numpy(), distances.numpy(), held_out.near.numpy())


def _by_chunks(module: Callable[[Tensor], Tensor], found: Tensor) -> Tensor:
    return torch.cat([module(part.float()) for part in torch.split(found, CHUNK)])


def build_features(config: DetectorConfig, images: Images) -> nn.Module:
    """Return the feature extractor of the configuration; "auto" chooses it by the images."""
    name = config.features
    if name == "auto":
        _, channels, height, width = images.shape
        name = "gradients" if channels == 1 and max(height, width) <= SMALL_SIDE else "lite0"
    return FEATURES[name]()


@torch.no_grad()
def feature_maps(features: nn.Module, images: Images, *, progress: bool = False) -> Found:
    """Compute the features of every image."""
    chunks = tqdm(torch.split(images, CHUNK), desc="features", unit="batch", disable=not progress)
    found = [features(to_pixels(chunk)) for chunk in chunks]
    return Found(torch.cat([coarse for coarse, _ in found]), torch.cat([fine.half() for _, fine in found]))


def folds_of(groups: Sequence[str]) -> Int64[Tensor, " image"]:
    """Assign every image to a fold. Groups stay whole, and a fold is a run of consecutive images.

    Consecutive images are alike: held-out runs differ from the other images about as much as new images do. A fold
    ends once it has a tenth of the images.
    """
    first: dict[str, int] = {}
    for index, group in enumerate(groups):
        first.setdefault(group, index)
    size = dict.fromkeys(first, 0)
    for group in groups:
        size[group] += 1
    folds, before, fold_by_group = min(FOLDS, len(first)), 0, {}
    for number, group in enumerate(first):
        earliest = number - len(first) + folds  # so that none of the later folds is empty
        fold_by_group[group] = max(earliest, min(before * folds // len(groups), number, folds - 1))
        before += size[group]
    numbers = {fold: i for i, fold in enumerate(sorted(set(fold_by_group.values())))}
    return torch.tensor([numbers[fold_by_group[group]] for group in groups])


def fit_projection(found: FeatureMaps, dimensions: int, generator: Generator) -> Projection:
    """Fit a projection onto the principal directions, without whitening, so that it nearly preserves distances."""
    sample = sampled(found, SAMPLED, generator).double()
    mean = sample.mean(0)
    _, directions = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    kept = min(dimensions, sample.shape[1])
    return Projection(mean.float(), directions.flip(1)[:, :kept].T.float().contiguous())


def fit_neighbours(f: FeatureMaps, entries: int, generator: Generator) -> Neighbours:
    """Select the memory bank, a coreset of the features of these images."""
    return Neighbours(coreset(sampled(f, PATCHES, generator), entries, generator))


def fit_positions(f: FeatureMaps) -> Positions:
    """Fit a Gaussian at every position over the leading directions. With few images, shrink it towards the pooled one.

    Covariances are pooled over a position and the eight around it, since object and camera move a little. The shift of
    a mean by shrinkage is added to its covariance.
    """
    x = f[:, :POSITION_DIRECTIONS]
    images, kept, rows, columns = x.shape
    length = x.square().mean(dim=(0, 2, 3)).sqrt()  # (D,): directions count the same, but for what is rounding alone
    unit = length.clamp_min(LEAST_LENGTH * float(length.max()) + 1e-6)
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
    return Positions(unit, mean + drawn, whitening(spread + POSITION_SHRINKAGE * torch.eye(kept)))


def fit_texture(fine: FeatureMaps, generator: Generator) -> Texture:
    """Fit one Gaussian to the fine features of all positions."""
    return Texture(*fit_whitening(sampled(fine, PATCHES, generator).double(), TEXTURE_SHRINKAGE))


def fit_usual(maps: Maps, around: int) -> Usual:
    """Compute mean and deviation of maps at every position, pooled with neighbours and with all positions.

    Deviations are mostly those of all positions: new images can differ a little even where good images hardly do.
    """
    mean, whole = _pooled_around(maps.mean(0), around), maps.var(correction=0)
    own = _pooled_around((maps - maps.mean(0)).square().mean(0), around)
    deviation = (OWN_VARIANCE * own + (1 - OWN_VARIANCE) * whole).sqrt().clamp_min(1e-6)
    return Usual(OWN_MEAN * mean + (1 - OWN_MEAN) * maps.mean(), deviation)


def _pooled_around(values: Float[Tensor, "rows columns"], around: int) -> Float[Tensor, "rows columns"]:
    padded = F.pad(values[None, None], (around,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * around + 1, stride=1)[0, 0]


def sampled(maps: FeatureMaps, count: int, generator: Generator) -> Float[Tensor, "position feature"]:
    """Sample at most `count` positions of all maps, without replacement."""
    flat = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    if len(flat) <= count:
        return flat
    return flat[torch.randperm(len(flat), generator=generator)[:count]]
