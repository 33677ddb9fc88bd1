"""The detector: features, evidence from several sources, one map and one score. All of it is the exported graph."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]
Map = Float[Tensor, "batch rows columns"]
Maps = Float[Tensor, "batch evidence rows columns"]

TOP_SHARE = 0.01  # of the positions of a map, whose mean is the score
MEAN_WEIGHT = 0.5  # of the mean of all of it, in the score
BLUR = (0.25, 0.5, 0.25)  # over the positions of the feature map, in both directions


class Features(Protocol):
    """phi: x (N,C,H,W) in [0, 1] -> (N,channels,H/stride,W/stride). An nn.Module with nothing left to learn."""

    channels: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor: ...


class Projection(nn.Module):
    """Features minus their mean onto some directions: (N,D,h,w) -> (N,K,h,w)."""

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Float[Tensor, " feature"], directions: Float[Tensor, "direction feature"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)

    def forward(self, features: FeatureMaps) -> Float[Tensor, "batch direction rows columns"]:
        return F.conv2d(features - self.mean[None, :, None, None], self.directions[:, :, None, None])


class Neighbours(nn.Module):
    """How far every position's features are from the nearest ones of good images: f (N,K,h,w) -> (N,h,w).

    The bank is a subset of what training saw, as in PatchCore (Roth et al. 2022, https://arxiv.org/abs/2106.08265).
    """

    bank: Tensor

    def __init__(self, bank: Float[Tensor, "entry feature"]) -> None:
        super().__init__()
        self.register_buffer("bank", bank)

    def forward(self, f: FeatureMaps) -> Map:
        rows, columns = f.shape[2:]
        flat = f.flatten(2).transpose(1, 2)  # (N, hw, K)
        to_entries = self.bank.square().sum(1) - 2.0 * (flat @ self.bank.T)  # (N, hw, M), less what is common
        nearest = self.bank[to_entries.argmin(dim=2)]  # (N, hw, K)
        # From the difference itself: the products above lose what is left of a short distance.
        return (flat - nearest).square().sum(dim=2).sqrt().reshape(-1, rows, columns)


class Positions(nn.Module):
    """How far every position's leading features are from what good images have there: f (N,K,h,w) -> (N,h,w).

    A Gaussian at every position, as in PaDiM (Defard et al. 2021, https://arxiv.org/abs/2011.08785), but over the
    directions that features vary most in, not over a random choice: Mahalanobis lengths, root mean squares over D.

    Args:
        mean: (D,h,w).
        whiten: (h*w,D,D); brings what good images have at a position to unit variance.
    """

    mean: Tensor
    whiten: Tensor

    def __init__(
        self, mean: Float[Tensor, "direction rows columns"], whiten: Float[Tensor, "position direction direction"]
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)

    def forward(self, f: FeatureMaps) -> Map:
        kept, rows, columns = self.mean.shape
        centred = (f[:, :kept] - self.mean).flatten(2).permute(2, 1, 0)  # (hw, D, N)
        square = (self.whiten @ centred).square().mean(dim=1)  # (hw, N)
        return square.sqrt().T.reshape(-1, rows, columns)


class Detector(nn.Module):
    """x (N,C,H,W) in [0, 1] -> score (N,), map (N,H,W); larger means less like the good images.

    x ->[ features, projection ]-> f (N,K,h,w)
    f ->[ distance from the nearest feature of good images ]-> map 1
    f ->[ Mahalanobis distance from what good images have at the position ]-> map 2
    maps ->[ 0 at the level, 1 at the height that held-out good images reach; weighted sum ]-> map (N,h,w)
    score: the mean of the map's highest 1 % and half the mean of all of it, each above what held-out good images have,
    in standard deviations of theirs: what is small is seen by the first, what is everywhere by the second.
    The map that is answered is blurred slightly and enlarged to (H,W).

    `level`, `height` and `weights` (2,), `centre` and `scale` (2,) are set by `learn.py`.

    Args:
        features: What has the shape of `Features`.
        projection: To f.
        neighbours: Makes map 1.
        positions: Makes map 2.
    """

    description = (
        "how far the features are from the nearest ones of good images, and, where parts lie alike, from what good "
        "images have at that place: the mean of the highest hundredth of the map and half the mean of all of it, each "
        "in standard deviations of good images"
    )
    evidence = ("distance", "position")

    level: Tensor
    height: Tensor
    weights: Tensor
    centre: Tensor
    scale: Tensor
    blur: Tensor

    def __init__(
        self,
        features: nn.Module,
        projection: nn.Module,
        neighbours: nn.Module,
        positions: nn.Module,
    ) -> None:
        super().__init__()
        self.features = features
        self.projection = projection
        self.neighbours = neighbours
        self.positions = positions
        self.register_buffer("level", torch.zeros(len(self.evidence)))
        self.register_buffer("height", torch.ones(len(self.evidence)))
        self.register_buffer("weights", torch.full((len(self.evidence),), 1 / len(self.evidence)))
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        blur = torch.tensor(BLUR)
        self.register_buffer("blur", (blur[:, None] * blur)[None, None])

    def forward(self, x: Images) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch height width"]]:
        joined = self.join(self.maps(self.projection(self.features(x))))
        return self.score(joined), self.enlarged(joined, (int(x.shape[2]), int(x.shape[3])))

    def maps(self, f: FeatureMaps) -> Maps:
        """One map per evidence from projected features: (N,2,h,w)."""
        return torch.stack([self.neighbours(f), self.positions(f)], dim=1)

    def standardised(self, maps: Maps) -> Maps:
        """Maps with 0 where held-out good images are on average, and 1 where their most unusual places are."""
        return (maps - self.level[:, None, None]) / (self.height - self.level)[:, None, None]

    def join(self, maps: Maps) -> Map:
        """All maps as one, weighted: (N,h,w)."""
        return (self.standardised(maps) * self.weights[:, None, None]).sum(dim=1)

    def enlarged(self, joined: Map, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """Joined maps at the size of the images, slightly blurred: scores are not, as it hides what is small."""
        blurred = F.conv2d(F.pad(joined[:, None], (1, 1, 1, 1), mode="replicate"), self.blur)
        return F.interpolate(blurred, size=size, mode="bilinear", align_corners=False)[:, 0]

    def score(self, joined: Map) -> Float[Tensor, " batch"]:
        """The score of joined maps: (N,)."""
        small, everywhere = ((pooled(joined) - self.centre) / self.scale).unbind(dim=1)
        return small + MEAN_WEIGHT * everywhere


def pooled(joined: Map) -> Float[Tensor, "batch pooling"]:
    """The mean of the highest 1 %, and of all, of every map."""
    return torch.stack([tops(joined[:, None])[:, 0], joined.mean(dim=(1, 2))], dim=1)


def tops(maps: Maps) -> Float[Tensor, "batch evidence"]:
    """The mean of the highest 1 % of every evidence's map."""
    flat = maps.flatten(2)
    return flat.topk(max(1, round(TOP_SHARE * flat.shape[2])), dim=2).values.mean(2)
