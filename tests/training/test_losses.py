"""Losses and figures by hand."""

import math

import pytest
import torch

from training.config import CorruptionConfig
from training.losses import LOSSES, PSNR_FLOOR
from training.measure.psnr import hidden_error, mean_squared_error, psnr_db

X = torch.tensor([[[[0.0, 0.5]]], [[[1.0, 0.25]]]])  # (2, 1, 1, 2)
X_HAT = torch.tensor([[[[0.1, 0.5]]], [[[0.7, 0.25]]]])  # errors 0.1, 0, 0.3, 0


def test_the_losses_of_two_images_by_hand() -> None:
    first, second = 0.1**2 / 2 + PSNR_FLOOR, 0.3**2 / 2 + PSNR_FLOOR

    assert float(LOSSES["mse"](X_HAT, X)) == pytest.approx((0.1**2 + 0.3**2) / 4)
    assert float(LOSSES["l1"](X_HAT, X)) == pytest.approx((0.1 + 0.3) / 4)
    assert float(LOSSES["psnr"](X_HAT, X)) == pytest.approx((math.log(first) + math.log(second)) / 2, rel=1e-5)
    assert float(LOSSES["rmse"](X_HAT, X)) == pytest.approx((first**0.5 + second**0.5) / 2, rel=1e-5)


def test_the_losses_are_the_same_from_both_sides() -> None:
    for loss in LOSSES.values():
        assert float(loss(X, X_HAT)) == pytest.approx(float(loss(X_HAT, X)))


def test_a_perfect_image_costs_nothing_and_per_image_the_error_of_rounding() -> None:
    """A twelfth of the square of a step of 1/255: the variance of what rounding to 8 bits does."""
    assert pytest.approx(1 / 255**2 / 12) == PSNR_FLOOR
    assert float(LOSSES["mse"](X, X)) == float(LOSSES["l1"](X, X)) == 0.0
    assert float(LOSSES["psnr"](X, X)) == pytest.approx(math.log(PSNR_FLOOR))
    assert float(LOSSES["rmse"](X, X)) == pytest.approx(PSNR_FLOOR**0.5)


@pytest.mark.parametrize(("mse", "decibels"), [(1.0, 0.0), (0.1, 10.0), (1e-4, 40.0), (0.5, 3.0103)])
def test_psnr_in_decibels(mse: float, decibels: float) -> None:
    assert psnr_db(mse) == pytest.approx(decibels, abs=1e-4)


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1200])
def test_the_mean_squared_error_weighs_every_image_the_same(count: int) -> None:
    """Images come in chunks of 500; here the error of the last image alone is not 0."""
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[-1] = 255

    assert mean_squared_error(torch.zeros_like, images, None) == pytest.approx(1 / count)


def test_the_mean_squared_error_is_of_what_the_function_makes_of_noisy_images() -> None:
    images = torch.full((600, 1, 4, 4), 128, dtype=torch.uint8)
    noise = CorruptionConfig(name="gaussian", options={"mean": 0.0, "sigma": 0.1})
    seen: list[torch.Tensor] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    error = mean_squared_error(function, images, noise)

    assert error == pytest.approx(0.01, rel=0.05)  # of 9,600 draws: 3 standard deviations are 4 %
    assert [len(x) for x in seen] == [500, 100]
    assert not torch.equal(seen[0][:100], seen[1])  # the noise goes on, it does not begin anew


def test_the_noise_of_figures_is_the_same_for_every_model_and_release() -> None:
    images = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)
    noise = CorruptionConfig(name="gaussian", options={"mean": 0.0, "sigma": 0.1})
    drawn = 0.1 * torch.randn((2, 1, 2, 2), generator=torch.Generator().manual_seed(20_000))

    assert mean_squared_error(lambda x: x, images, noise) == pytest.approx(float(drawn.square().mean()), rel=1e-3)


def test_the_hidden_error_looks_only_at_pixels_that_were_hidden() -> None:
    x = torch.full((1, 1, 40, 40), 0.25)  # what stands in for a hidden pixel is the same

    assert hidden_error(lambda seen: seen + 0.5, x, torch.Generator().manual_seed(0)) == pytest.approx(0.25)
    assert hidden_error(lambda seen: seen, x, torch.Generator().manual_seed(0)) == 0.0
