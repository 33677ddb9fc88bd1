"""What the network learns to undo: range, size, statistics and repeatability of every corruption."""

import pytest
import torch

from training.config import CorruptionConfig, RecipeError
from training.corruptions import CORRUPTIONS, corrupt, training_input

TEXTBOOK = CorruptionConfig(name="gaussian", options={"mean": 0.5, "sigma": 0.4}, clean_share=0.25)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_corruption_keeps_shape_and_range_and_repeats_with_its_seed(name: str) -> None:
    x = torch.rand(4, 3, 8, 6, generator=generator())
    config = CorruptionConfig(name=name)

    first, again = corrupt(x, config, generator(5)), corrupt(x, config, generator(5))

    assert first.shape == x.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)


def test_textbook_noise_on_black_has_the_mean_of_a_clamped_normal() -> None:
    x = torch.zeros(10, 1, 100, 100)

    x_noisy = corrupt(x, TEXTBOOK, generator())

    # E[clamp(N(0.5, 0.4), 0, 1)] = 0.5 by symmetry; 100,000 draws of deviation 0.33 are within 0.005 (5 sigma)
    assert x_noisy.mean().item() == pytest.approx(0.5, abs=0.005)
    # P(N(0.5, 0.4) < 0) = Phi(-1.25) = 0.1056
    assert (x_noisy == 0).float().mean().item() == pytest.approx(0.1056, abs=0.005)


def test_the_clean_share_of_a_training_batch_stays_clean() -> None:
    x = torch.rand(4000, 1, 2, 2, generator=generator())

    x_in = training_input(x, TEXTBOOK, generator(1))

    is_clean = (x_in == x).flatten(1).all(1)
    assert is_clean.float().mean().item() == pytest.approx(0.25, abs=0.035)  # 5 sigma of a binomial of 4,000


def test_an_unknown_corruption_is_named_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no corruption 'rain'; there are gaussian, none"):
        corrupt(torch.zeros(1, 1, 2, 2), CorruptionConfig(name="rain"), generator())


def test_an_option_that_a_corruption_does_not_take_is_named() -> None:
    with pytest.raises(RecipeError, match="sigmma"):
        corrupt(torch.zeros(1, 1, 2, 2), CorruptionConfig(options={"sigmma": 1}), generator())
