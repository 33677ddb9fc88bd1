"""The whitening matrices of Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor


def whitening(covariance: Float[Tensor, "*_ direction direction"]) -> Float[Tensor, "*_ direction direction"]:
    """Return the whitening matrix of a positive definite covariance, (..., D, D)."""
    below = torch.linalg.cholesky(covariance)
    whiten: Tensor = torch.linalg.solve_triangular(below, torch.eye(below.shape[-1], dtype=below.dtype), upper=False)
    return whiten


def fit_whitening(
    rows: Float[Tensor, "row feature"], shrinkage: float
) -> tuple[Float[Tensor, " feature"], Float[Tensor, "feature feature"]]:
    """Return mean (K,) and whitening matrix (K, K) of rows (N, K), as float32.

    Args:
        rows: Features, in double precision.
        shrinkage: Share of the mean variance that is added to every variance, so that few rows suffice.
    """
    mean, covariance = rows.mean(0), rows.T.cov(correction=0)
    covariance += (shrinkage * covariance.diagonal().mean() + 1e-12) * torch.eye(len(mean))
    return mean.float(), whitening(covariance).float()
