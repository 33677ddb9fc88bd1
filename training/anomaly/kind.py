"""How far an image as a whole is from good ones: another source, however good the part in it may be."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from training.anomaly.whitening import whitening

Means = Float[Tensor, "image feature"]

SHRINKAGE = 0.1  # of the mean variance; 0.01 to 1 give the same on ten sets


class Kind(nn.Module):
    """Mahalanobis distance of an image's mean features from those of good images: (N,D,h,w) -> (N,).

    Root mean squares over D. Positions play no part, and a small defect hardly counts.

    Args:
        mean: (D,).
        whiten: (D,D); whitens the mean features of good images.
    """

    mean: Tensor
    whiten: Tensor

    def __init__(self, mean: Float[Tensor, " feature"], whiten: Float[Tensor, "feature feature"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)

    def forward(self, coarse: Float[Tensor, "batch feature rows columns"]) -> Float[Tensor, " batch"]:
        return self.distance(coarse.mean(dim=(2, 3)))

    def distance(self, means: Means) -> Float[Tensor, " image"]:
        """Return the distance of mean features."""
        return ((means - self.mean) @ self.whiten.T).square().mean(dim=1).sqrt()


def fit_kind(means: Means) -> Kind:
    """Fit a Gaussian to the mean features of good images; its covariance is shrunk towards a multiple of one."""
    rows = means.double()
    covariance = rows.T.cov(correction=0)
    covariance += (SHRINKAGE * covariance.diagonal().mean() + 1e-12) * torch.eye(len(covariance))
    return Kind(rows.mean(0).float(), whitening(covariance).float())


def held_out_distances(means: Means, fold_of: Int64[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Return the distance of each good image from those of the other folds."""
    found = torch.empty(len(means))
    for fold in range(int(fold_of.max()) + 1):
        out = fold_of == fold
        found[out] = fit_kind(means[~out]).distance(means[out])
    return found
