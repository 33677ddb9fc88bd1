"""The detector: features, evidence from several sources, one score and one map. All of it is the exported graph."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]
Map = Float[Tensor, "batch rows columns"]
Maps = Float[Tensor, "batch evidence rows columns"]

POOLINGS = ("mean", "top 1 %", "max")
TOP_SHARE = 0.01
BLUR = (0.25, 0.5, 0.25)  # over the positions of the feature map, in both directions


class Features(Protocol):
    """phi: x (N,C,H,W) in [0, 1] -> (N,channels,H/stride,W/stride). An nn.Module with nothing left to learn."""

    channels: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor: ...


class FeatureAutoencoder(nn.Module):
    """A convolutional autoencoder of feature maps.

    f (N,K,h,w) ->[ 3x3 convolution, stride 2, per width ]-> ... ->[ 3x3 convolution ]-> z (N,latent,h/4,w/4) ->
    [ bilinear x2, 3x3 convolution, per width ]-> ... -> f_hat (N,K,h,w), drawn for two widths.
    """

    def __init__(self, channels: int, *, widths: Sequence[int] = (64, 64), latent: int = 24) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise((channels, *widths)))
        self.to_latent = nn.Conv2d(widths[-1], latent, 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((latent, *reversed(widths))))
        self.to_features = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, f: FeatureMaps) -> FeatureMaps:
        sizes: list[torch.Size] = []
        x = f
        for convolution in self.down:
            sizes.append(x.shape[2:])
            x = F.gelu(convolution(x))
        x = self.to_latent(x)
        for convolution in self.up:
            x = F.interpolate(x, size=sizes.pop(), mode="bilinear", align_corners=False)
            x = F.gelu(convolution(x))
        f_hat: Tensor = self.to_features(x)
        return f_hat


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


class Reconstruction(nn.Module):
    """How unusual what the autoencoder cannot reproduce is: the Mahalanobis length of its residual at every position.

    f (N,K,h,w) ->[ f - autoencoder(f), whitened ]-> (N,h,w), in standard deviations (root mean square over K).
    """

    def __init__(self, autoencoder: nn.Module, whiten: Projection) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.whiten = whiten

    def forward(self, f: FeatureMaps) -> Map:
        residual: Tensor = self.whiten(f - self.autoencoder(f))
        return residual.square().mean(dim=1).sqrt()


class Scale(nn.Module):
    """Every feature times a number of its own: (N,K,h,w) -> (N,K,h,w)."""

    by: Tensor

    def __init__(self, by: Float[Tensor, " feature"]) -> None:
        super().__init__()
        self.register_buffer("by", by)

    def forward(self, f: FeatureMaps) -> FeatureMaps:
        return f * self.by[None, :, None, None]


class WithinImage(nn.Module):
    """Features in standard deviations of their own image: what stands out in it, whatever its light or material.

    f (N,K,h,w) -> (N,K,h,w). `least` is added to the deviations, so that an even image does not become noise.
    """

    def __init__(self, least: float = 0.3) -> None:
        super().__init__()
        self.least = least

    def forward(self, f: FeatureMaps) -> FeatureMaps:
        centred = f - f.mean(dim=(2, 3), keepdim=True)
        return centred / (centred.square().mean(dim=(2, 3), keepdim=True).sqrt() + self.least)


class Neighbours(nn.Module):
    """How far every position's features are from the nearest ones of normal images: f (N,K,h,w) -> (N,h,w).

    The bank is a small subset of what training saw, as in PatchCore (Roth et al. 2022,
    https://arxiv.org/abs/2106.08265).
    """

    bank: Tensor

    def __init__(self, bank: Float[Tensor, "entry feature"]) -> None:
        super().__init__()
        self.register_buffer("bank", bank)

    def forward(self, f: FeatureMaps) -> Map:
        rows, columns = f.shape[2:]
        flat = f.flatten(2)  # (N, K, hw)
        to_entries = self.bank.square().sum(1)[:, None] - 2.0 * (self.bank @ flat)  # (N, M, hw), less what is common
        nearest = self.bank[to_entries.argmin(dim=1)].movedim(2, 1)  # (N, K, hw)
        # From the difference itself: the products above lose what is left of a short distance.
        return (flat - nearest).square().sum(dim=1).sqrt().reshape(-1, rows, columns)


class Positions(nn.Module):
    """How far every position's leading features are from what normal images have there: f (N,K,h,w) -> (N,h,w).

    A Gaussian at every position, as in PaDiM (Defard et al. 2021, https://arxiv.org/abs/2011.08785), but over the
    directions that features vary most in, not over a random choice: Mahalanobis lengths, root mean squares over D.

    Args:
        mean: (D,h,w).
        whiten: (h*w,D,D); brings what normal images have at a position to unit variance.
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
    """x (N,C,H,W) in [0, 1] -> score (N,), map (N,H,W); larger means less like the training images.

    x ->[ features, projection ]-> f (N,K,h,w) ->[ each evidence, slight blur, over what is usual ]-> maps (N,E,h,w)
    score: each map's mean, top 1 % and max, in standard deviations from those of held-out normal images, weighted.
    map: each map as a share of the height that held-out normal images reach, weighted, enlarged to (H,W).

    `usual` (E,h,w) is how high held-out normal images come at each position: where good parts differ, at an edge or a
    reflection, more is needed. It, `centre`, `scale` and `weights` (E,3) and `height` (E,) are set by `learn.py`; until
    then all positions and scores count the same.

    Args:
        features: What has the shape of `Features`.
        projection: To f.
        evidence: Name to what makes a map (N,h,w) of f.
        positions: Rows and columns of the feature maps.
    """

    description = (
        "how unusual the features of the image are for their place: residuals of a feature autoencoder, distances to "
        "the nearest features of normal images, as they are and within their image, and Mahalanobis distances from "
        "what normal images have at that position, in standard deviations of held-out normal images"
    )

    usual: Tensor
    centre: Tensor
    scale: Tensor
    weights: Tensor
    height: Tensor
    blur: Tensor

    def __init__(
        self,
        features: nn.Module,
        projection: nn.Module,
        evidence: Mapping[str, nn.Module],
        *,
        positions: tuple[int, int],
    ) -> None:
        super().__init__()
        self.features = features
        self.projection = projection
        self.evidence = nn.ModuleDict(evidence)
        kinds, poolings = len(evidence), len(POOLINGS)
        self.register_buffer("usual", torch.ones(kinds, *positions))
        self.register_buffer("centre", torch.zeros(kinds, poolings))
        self.register_buffer("scale", torch.ones(kinds, poolings))
        self.register_buffer("weights", torch.full((kinds, poolings), 1 / (kinds * poolings)))
        self.register_buffer("height", torch.ones(kinds))
        blur = torch.tensor(BLUR)
        self.register_buffer("blur", (blur[:, None] * blur)[None, None].repeat(kinds, 1, 1, 1))

    def forward(self, x: Images) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch height width"]]:
        maps = self.maps(self.projection(self.features(x)))
        size = (int(x.shape[2]), int(x.shape[3]))
        return self.score(pooled(maps)), self.whole_map(maps, size)

    def maps(self, f: FeatureMaps) -> Maps:
        """One map per evidence from projected features, blurred, over what is usual at each position: (N,E,h,w)."""
        maps = torch.stack([evidence(f) for evidence in self.evidence.values()], dim=1)
        maps = F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), self.blur, groups=maps.shape[1])
        return maps / self.usual

    def score(self, pooled_maps: Float[Tensor, "batch evidence pooling"]) -> Float[Tensor, " batch"]:
        """Pooled maps in standard deviations of normal images, weighted: (N,)."""
        return (((pooled_maps - self.centre) / self.scale) * self.weights).sum(dim=(1, 2))

    def whole_map(self, maps: Maps, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """The maps as one of the image's size: 1 is about as high as normal images reach."""
        share = self.weights.sum(dim=1)
        combined = (maps * (share / share.sum() / self.height)[None, :, None, None]).sum(dim=1, keepdim=True)
        return F.interpolate(combined, size=size, mode="bilinear", align_corners=False)[:, 0]


def pooled(maps: Maps) -> Float[Tensor, "batch evidence pooling"]:
    """Mean, mean of the highest 1 % and maximum of every map."""
    flat = maps.flatten(2)
    count = max(1, round(TOP_SHARE * flat.shape[2]))
    return torch.stack([flat.mean(2), flat.topk(count, dim=2).values.mean(2), flat.amax(2)], dim=2)
