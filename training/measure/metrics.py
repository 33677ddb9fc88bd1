"""Metrics of restored pictures. To add one: a function here and its line in METRICS."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.measure.psnr import psnr_db

# Wang et al., Image quality assessment: from error visibility to structural similarity, 2004,
# https://doi.org/10.1109/TIP.2003.819861, section III-C; their constants are for pixels in [0, 1] here.
SSIM_SIDE, SSIM_SIGMA = 11, 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
LEAST_MSE = 1e-10  # 100 dB: two equal pictures have no ratio of signal to noise

Picture = Float[Tensor, "1 channel height width"]


@dataclass(frozen=True)
class PictureMetric:
    """A metric of one picture, with its name in tables and on cards.

    Attributes:
        title: Title of its column.
        unit: Unit of its mean over pictures.
        digits: Decimal places in tables.
        of: (x_hat, x) -> value; both (1, C, H, W), pixels in [0, 1]. Larger is better.
    """

    title: str
    unit: str
    digits: int
    of: Callable[[Picture, Picture], float]


def psnr(x_hat: Picture, x: Picture) -> float:
    """Compute the peak signal-to-noise ratio of one picture, in dB."""
    return psnr_db(max(F.mse_loss(x_hat, x).item(), LEAST_MSE))


def ssim(x_hat: Picture, x: Picture) -> float:
    """Compute the structural similarity of one picture, with the settings of its authors.

    Windows of 11x11 pixels weighted by a Gaussian of 1.5, means and covariances of the window itself, K1 = 0.01 and
    K2 = 0.03. The mean is over windows that lie inside the picture, and over channels. A picture smaller than 11
    pixels gets the largest odd window that it holds.

    Returns:
        At most 1, for equal pictures.
    """
    side = min(SSIM_SIDE, (min(x.shape[2:]) - 1) // 2 * 2 + 1)
    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()

    def windowed(values: Tensor) -> Tensor:
        """Take the weighted mean of every window."""
        across = F.conv2d(values.transpose(0, 1), weights.view(1, 1, 1, -1))  # channels as the batch
        return F.conv2d(across, weights.view(1, 1, -1, 1))

    a, b = x_hat.double(), x.double()
    mean_a, mean_b = windowed(a), windowed(b)
    variances = windowed(a * a + b * b) - mean_a.square() - mean_b.square()
    covariance = windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a.square() + mean_b.square() + SSIM_C1)
    return float((luminance * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)).mean())


METRICS: dict[str, PictureMetric] = {
    "psnr_db": PictureMetric("PSNR, dB", "dB, mean over pictures", 2, psnr),
    "ssim": PictureMetric("SSIM", "SSIM (11x11 Gaussian windows of 1.5), mean over pictures", 3, ssim),
}
