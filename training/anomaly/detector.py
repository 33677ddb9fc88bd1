"""The detector: features, evidence from several sources, one map and one score. All of it is the exported graph."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from training.anomaly.ignore import Fill, left_out

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]
FineMaps = Float[Tensor, "batch fine_feature fine_rows fine_columns"]
Map = Float[Tensor, "batch rows columns"]
FineMap = Float[Tensor, "batch fine_rows fine_columns"]

TOP_SHARE = 0.01  # of the positions of a map, whose mean is the score by distance
PLACE_WEIGHT = 0.5  # of the evidence by position in the map, where distance and texture count 1


class Features(Protocol):
    """phi: x (N,C,H,W) in [0, 1] -> (N,channels,H/stride,W/stride), and finer features. It is not trained."""

    channels: int
    stride: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


class Projection(nn.Module):
    """Project centred features onto K directions: (N,D,h,w) -> (N,K,h,w)."""

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Float[Tensor, " feature"], directions: Float[Tensor, "direction feature"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)

    def forward(self, features: FeatureMaps) -> Float[Tensor, "batch direction rows columns"]:
        return F.conv2d(features - self.mean[None, :, None, None], self.directions[:, :, None, None])


class Neighbours(nn.Module):
    """Distance of every position's features from the nearest ones of good images: f (N,K,h,w) -> (N,h,w).

    The bank is a subset of the training features, as in PatchCore (Roth et al. 2022, https://arxiv.org/abs/2106.08265).
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
    """Distance of the leading features from those of good images at the same position: f (N,K,h,w) -> (N,h,w).

    A Gaussian at every position, as in PaDiM (Defard et al. 2021, https://arxiv.org/abs/2011.08785), but over the
    directions that features vary most in, not over a random choice: Mahalanobis lengths, root mean squares over D.

    Args:
        unit: (D,), the length that counts as 1 in every direction.
        mean: (D,h,w), in these units.
        whiten: (h*w,D,D); whitens the features of good images at each position. Stored in 16 bits.
    """

    unit: Tensor
    mean: Tensor
    whiten: Tensor

    def __init__(
        self,
        unit: Float[Tensor, " direction"],
        mean: Float[Tensor, "direction rows columns"],
        whiten: Float[Tensor, "position direction direction"],
    ) -> None:
        super().__init__()
        self.register_buffer("unit", unit)
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten.half())  # half the size of the graph; errors of 0.0005

    def forward(self, f: FeatureMaps) -> Map:
        kept, rows, columns = self.mean.shape
        centred = (f[:, :kept] / self.unit[:, None, None] - self.mean).flatten(2).permute(2, 1, 0)  # (hw, D, N)
        square = (self.whiten.float() @ centred).square().mean(dim=1)  # (hw, N)
        return square.sqrt().T.reshape(-1, rows, columns)


class Texture(nn.Module):
    """Mahalanobis distance of features from those of good images at any position: f (N,K,h,w) -> (N,h,w).

    Args:
        mean: (K,).
        whiten: (K,K); whitens the features of good images.
    """

    mean: Tensor
    whiten: Tensor

    def __init__(self, mean: Float[Tensor, " feature"], whiten: Float[Tensor, "feature feature"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)

    def forward(self, f: FineMaps) -> FineMap:
        centred = f - self.mean[None, :, None, None]
        return F.conv2d(centred, self.whiten[:, :, None, None]).square().sum(dim=1).sqrt()


class Usual(nn.Module):
    """Standardise a map by mean and deviation of good images at each position: (N,h,w) -> (N,h,w).

    Args:
        mean: (h,w).
        std: (h,w).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, "rows columns"], std: Float[Tensor, "rows columns"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, maps: Map) -> Map:
        return (maps - self.mean) / self.std


class Evidence(NamedTuple):
    """Three maps of the same images: by distance and by position, (N,h,w); by texture, finer, (N,H',W')."""

    near: Map
    place: Map
    texture: FineMap


class Detector(nn.Module):
    """x (N,C,H,W) in [0, 1] -> score (N,), map (N,H,W), distance (N,); larger means less like the good images.

    x ->[ pixels that are NaN filled, see `ignore.py` ]->[ features ]-> coarse ones (N,D,h,w), fine ones (N,F,H',W')
    coarse ->[ projection ]-> f (N,K,h,w)
    f ->[ distance from the nearest feature of good images ]-> map 1
    f ->[ Mahalanobis distance from good images at the same position ]-> map 2
    fine ->[ Mahalanobis distance from good images at any position ]-> map 3
    maps ->[ standardised by held-out good images at the same position ]-> maps
    score: the higher of two, each in standard deviations of held-out good images: the mean of the highest 1 % of map 1,
    and the highest value of map 2.
    map: maps 1 and 3 and half of map 2, 0 at the mean of good images, 1 at their most unusual positions.
    With `known`, the score is the mean of that and of a comparison with known defects, see `known.py`.
    distance: Mahalanobis distance of the mean coarse features from those of good images, see `kind.py`.
    Pixels that are NaN in any channel are ignored: there maps are as usual, and the map is 0.

    `centre` and `scale` (2,), `level` and `height` (1,) are set by `learn.py`.

    Args:
        features: A module with the interface of `Features`.
        projection: Coarse features to f.
        near: Computes map 1.
        place: Computes map 2.
        texture: Computes map 3.
        usual: Standardisation of maps 1, 2 and 3.
        kind: Computes the distance.
        reference: (C,H,W), bytes of a good image, to fill pixels that are ignored.
    """

    description = (
        "how far the features are from the nearest ones of good images, and from what good images have at that place, "
        "each less what is usual there: the higher of the mean of the highest hundredth of the one and the highest "
        "value of the other, each in standard deviations of good images"
    )

    centre: Tensor
    scale: Tensor
    level: Tensor
    height: Tensor

    def __init__(
        self,
        features: nn.Module,
        projection: nn.Module,
        *,
        near: nn.Module,
        place: nn.Module,
        texture: nn.Module,
        usual: Sequence[nn.Module],
        kind: nn.Module,
        reference: UInt8[Tensor, "channel height width"],
    ) -> None:
        super().__init__()
        self.fill = Fill(reference)
        self.features = features
        self.projection = projection
        self.near = near
        self.place = place
        self.texture = texture
        self.usual = nn.ModuleList(usual)
        self.kind = kind
        self.known: nn.Module | None = None  # a `Known`, if there is one
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("level", torch.zeros(1))
        self.register_buffer("height", torch.ones(1))

    def forward(
        self, x: Images
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch height width"], Float[Tensor, " batch"]]:
        ignored = x.isnan().any(dim=1)  # (N, H, W)
        coarse, fine = self.features(self.fill(x, ignored))
        f = self.projection(coarse)
        maps = (self.near(f), self.place(f), self.texture(fine))
        evidence = Evidence(*(left_out(usual(part), ignored) for usual, part in zip(self.usual, maps, strict=True)))
        anomaly_map = self.map(evidence, (int(x.shape[2]), int(x.shape[3])))
        score = self.score(evidence)
        if self.known is not None:
            score = self.known(score, f, evidence.near, ignored)
        return score, torch.where(ignored, 0.0, anomaly_map), self.kind(coarse)

    def score(self, evidence: Evidence) -> Float[Tensor, " batch"]:
        """Return the scores of standardised maps, (N,)."""
        return ((pooled(evidence) - self.centre) / self.scale).amax(dim=1)

    def map(self, evidence: Evidence, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """Combine standardised maps into one at the size of the images."""
        whole = F.interpolate(joined(evidence)[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        return (whole - self.level) / (self.height - self.level)


def pooled(evidence: Evidence) -> Float[Tensor, "batch evidence"]:
    """Return for every image the mean of the top 1 % of the map by distance, and the maximum of that by position."""
    return torch.stack([top_mean(evidence.near), evidence.place.flatten(1).amax(dim=1)], dim=1)


def top_mean(maps: Map) -> Float[Tensor, " batch"]:
    """Return the mean of the highest 1 % of each map."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(TOP_SHARE * flat.shape[1])), dim=1).values.mean(dim=1)


def joined(evidence: Evidence) -> FineMap:
    """Combine the standardised maps at the size of the finest: (N,H',W')."""
    coarse = (evidence.near + PLACE_WEIGHT * evidence.place)[:, None]
    size = (int(evidence.texture.shape[1]), int(evidence.texture.shape[2]))
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0] + evidence.texture
