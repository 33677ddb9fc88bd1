"""The whitening matrix of a Gaussian."""

import torch
from jaxtyping import Float
from torch import Tensor


def whitening(covariance: Float[Tensor, "*_ direction direction"]) -> Float[Tensor, "*_ direction direction"]:
    """Return the whitening matrix of a positive definite covariance, (..., D, D)."""
    below = torch.linalg.cholesky(covariance)
    whiten: Tensor = torch.linalg.solve_triangular(below, torch.eye(below.shape[-1], dtype=below.dtype), upper=False)
    return whiten
