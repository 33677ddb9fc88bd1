"""Baselines, calibration and metrics against hand values, NumPy and published formulas."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from service.contract.sections import Calibration
from training.calibration import Answers, calibration_of, too_few
from training.config import CorruptionConfig
from training.images.corruptions import corrupt
from training.measure.baselines import median_filter, reduced_rank_regression
from training.measure.psnr import mean_squared_error, psnr_db

NOISE = CorruptionConfig(name="gaussian", options={"mean": 0.1, "sigma": 0.2})


@pytest.fixture
def images() -> torch.Tensor:
    """Correlated 4x5 images with a mean: (300, 1, 4, 5), bytes."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)) * 8 + 120
    return torch.from_numpy(mixed.clip(0, 255).astype(np.uint8).reshape(300, 1, 4, 5))


def _calibration(scores: Sequence[float], target_fpr: float) -> Calibration:
    values = np.array(scores, np.float32)
    return calibration_of(Answers(values, 2 * values), target_fpr, score="made up")


def test_reduced_rank_regression_without_noise_is_pca(images: torch.Tensor) -> None:
    x = images.numpy().reshape(300, 20) / 255.0
    mean = x.mean(0)
    _, _, directions = np.linalg.svd(x - mean, full_matrices=False)
    expected = (x - mean) @ directions[:3].T @ directions[:3] + mean

    x_hat = reduced_rank_regression(images, None, 3)(images.float() / 255)

    np.testing.assert_allclose(x_hat.numpy().reshape(300, 20), expected, atol=1e-5)  # float32 output


def test_reduced_rank_regression_beats_every_random_map_of_its_rank(images: torch.Tensor) -> None:
    x = images.float() / 255
    x_noisy = corrupt(x, NOISE, torch.Generator().manual_seed(10_000))  # the noise that the regression draws
    best = float((reduced_rank_regression(images, NOISE, 2)(x_noisy) - x).square().mean())
    flat, flat_noisy = x.flatten(1).numpy().astype(float), x_noisy.flatten(1).numpy().astype(float)
    centred, target = flat_noisy - flat_noisy.mean(0), flat - flat.mean(0)

    for seed in range(20):
        narrow = centred @ np.random.default_rng(seed).normal(size=(20, 2))
        solution, *_ = np.linalg.lstsq(narrow, target, rcond=None)  # the best decoder for a random encoder
        assert best < np.square(narrow @ solution - target).mean()


def test_full_rank_regression_is_ordinary_least_squares(images: torch.Tensor) -> None:
    x = images.float() / 255
    x_noisy = corrupt(x, NOISE, torch.Generator().manual_seed(10_000))
    flat_noisy = np.column_stack([x_noisy.flatten(1).numpy().astype(float), np.ones(300)])
    solution, *_ = np.linalg.lstsq(flat_noisy, x.flatten(1).numpy().astype(float), rcond=None)

    x_hat = reduced_rank_regression(images, NOISE, 20)(x_noisy)

    np.testing.assert_allclose(x_hat.flatten(1).numpy(), flat_noisy @ solution, atol=1e-5)


def test_the_median_of_a_single_bright_pixel_is_black_and_of_a_step_is_the_step() -> None:
    x = torch.zeros(1, 1, 5, 6)
    x[..., 3:] = 0.5
    x[0, 0, 2, 1] = 1.0

    y = median_filter(x)

    assert y[0, 0, 2, 1] == 0
    assert torch.equal(y[..., 3:], x[..., 3:])


def test_mean_squared_error_of_a_constant_offset_is_its_square(images: torch.Tensor) -> None:
    assert mean_squared_error(lambda x: x + 0.1, images, None) == pytest.approx(0.01, rel=1e-5)


def test_mean_squared_error_draws_the_same_noise_at_every_call(images: torch.Tensor) -> None:
    first, second = (mean_squared_error(lambda x: x, images, NOISE) for _ in range(2))

    assert first == second


def test_psnr_of_a_hundredth_is_twenty_decibels() -> None:
    assert psnr_db(0.01) == pytest.approx(20.0)


def p_value(calibration: Calibration, score: float) -> float:
    at_or_above = sum(s >= score for s in calibration.scores)
    return (1 + at_or_above) / (len(calibration.scores) + 1)


def test_the_threshold_is_the_smallest_score_with_a_p_value_within_the_rate() -> None:
    calibration = _calibration([float(s) for s in range(1, 100)], 0.05)  # n = 99

    # p of 95 is (1 + 5) / 100, and just above it 0.05
    assert calibration.threshold == np.nextafter(np.float32(95), np.float32(96))
    assert p_value(calibration, calibration.threshold) == pytest.approx(0.05)
    assert p_value(calibration, 95.0) == pytest.approx(0.06)


def test_ties_at_the_threshold_do_not_flag_more_than_the_rate() -> None:
    calibration = _calibration([1.0] * 50 + [2.0] * 49, 0.05)

    assert calibration.threshold > 2.0
    assert sum(s >= calibration.threshold for s in calibration.scores) == 0


def test_too_few_scores_flag_nothing_they_know_and_say_so() -> None:
    calibration = _calibration([0.3, 0.1, 0.2], 0.01)

    assert calibration.scores == pytest.approx((0.1, 0.2, 0.3))
    assert calibration.map_peaks == pytest.approx((0.2, 0.4, 0.6))
    assert calibration.threshold > 0.3
    assert too_few(calibration) == (
        "Only 3 images were kept for calibration: a false-positive rate of 0.01 needs at least 99, the best that 3 can "
        "promise is 0.25."
    )
    assert too_few(_calibration([float(s) for s in range(99)], 0.01)) is None


def test_the_asked_rate_is_reached_with_few_scores_too() -> None:
    rng = np.random.default_rng(0)
    flagged = 0
    for _ in range(2000):  # n = 39: exactly one score may be above the threshold, and a new one is with 2 in 40
        *scores, new = rng.normal(size=40).astype(np.float32).tolist()
        flagged += new >= _calibration(scores, 0.05).threshold

    assert flagged / 2000 == pytest.approx(0.05, abs=0.015)  # three standard deviations: 3 sqrt(0.05 0.95 / 2000)


@pytest.mark.parametrize("seed", range(5))
def test_about_the_asked_share_of_new_normal_scores_is_flagged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    calibration = _calibration(rng.normal(size=2000).tolist(), 0.05)

    flagged = np.mean(rng.normal(size=20000) >= calibration.threshold)

    assert flagged == pytest.approx(0.05, abs=0.025)  # 5 sigma of a 95 % quantile of 2,000 draws
