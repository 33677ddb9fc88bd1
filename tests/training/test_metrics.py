"""Metrics of restored pictures, against hand values and an implementation with other tools."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.measure.metrics import METRICS, psnr, ssim


def a_picture(channels: int = 1, side: int = 40, seed: int = 0) -> torch.Tensor:
    """Pixels in [0, 1], smooth with noise: (1, channels, side, side)."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((channels, side, side)), (0, 3, 3))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(np.clip(smooth + rng.normal(0, 0.02, smooth.shape), 0, 1)[None].astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_wang_et_al(channels: int) -> None:
    x, x_hat = a_picture(channels), a_picture(channels) * 0.8 + a_picture(channels, seed=1) * 0.2

    expected = []
    for a, b in zip(x_hat[0].double().numpy(), x[0].double().numpy(), strict=True):

        def mean(values: np.ndarray) -> np.ndarray:
            windowed: np.ndarray = ndimage.gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]
            return windowed

        covariance = mean(a * b) - mean(a) * mean(b)
        variances = mean(a**2) - mean(a) ** 2, mean(b**2) - mean(b) ** 2
        luminance = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
        expected.append(np.mean(luminance * (2 * covariance + 9e-4) / (sum(variances) + 9e-4)))
    assert ssim(x_hat, x) == pytest.approx(np.mean(expected), abs=1e-9)


def test_ssim_of_two_flat_pictures_is_what_their_means_say() -> None:
    dark, bright = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.6)

    assert ssim(dark, bright) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), abs=1e-6)


def test_psnr_of_a_picture_that_is_off_by_a_tenth_is_20_db() -> None:
    x = torch.full((1, 3, 8, 8), 0.5)

    assert psnr(x + 0.1, x) == pytest.approx(20.0, abs=1e-4)  # float32 of 0.6 - 0.5


@pytest.mark.parametrize("side", [2, 7, 40])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_finite_and_largest_for_equal_pictures(name: str, side: int) -> None:
    x = a_picture(side=side)

    best, worse = METRICS[name].of(x, x), METRICS[name].of(1.0 - x, x)

    assert np.isfinite(best)
    assert worse < best
