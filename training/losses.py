"""Reconstruction losses. To add one: a function and its name below."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]


def mse(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Return the mean squared error over all pixels, the textbook's objective."""
    return F.mse_loss(x_hat, x)


def l1(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Return the mean absolute error over all pixels, which is less sensitive to rare large errors."""
    return F.l1_loss(x_hat, x)


PSNR_FLOOR = (1 / 255) ** 2 / 12  # the error of rounding to 8 bits; less than that is not asked for


def psnr(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Return the mean over images of the logarithm of their mean squared error: a dB of each has the same weight."""
    return torch.log((x_hat - x).square().mean(dim=(1, 2, 3)) + PSNR_FLOOR).mean()


def rmse(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Return the mean over images of the root of their mean squared error: gradients do not grow with the noise."""
    return ((x_hat - x).square().mean(dim=(1, 2, 3)) + PSNR_FLOOR).sqrt().mean()


LOSSES: dict[str, Callable[[Images, Images], Float[Tensor, ""]]] = {"l1": l1, "mse": mse, "psnr": psnr, "rmse": rmse}
