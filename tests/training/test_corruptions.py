"""What the network learns to undo: range, size, statistics and repeatability of every corruption."""

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from training.config import CorruptionConfig, RecipeError
from training.images.corruptions import CORRUPTIONS, corrupt, training_input

OPTIONS: dict[str, dict[str, JsonValue]] = {"one_of": {"names": ["gaussian", "flip", "rotate"]}}
TEXTBOOK = CorruptionConfig(name="gaussian", options={"mean": 0.5, "sigma": 0.4}, clean_share=0.25)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_corruption_keeps_shape_and_range_and_repeats_with_its_seed(name: str) -> None:
    x = torch.rand(4, 3, 8, 6, generator=generator())
    config = CorruptionConfig(name=name, options=OPTIONS.get(name, {}))

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
    with pytest.raises(RecipeError, match=r"no corruption 'rain'; there are flip, gaussian, none"):
        corrupt(torch.zeros(1, 1, 2, 2), CorruptionConfig(name="rain"), generator())


def test_an_option_that_a_corruption_does_not_take_is_named() -> None:
    with pytest.raises(RecipeError, match="sigmma"):
        corrupt(torch.zeros(1, 1, 2, 2), CorruptionConfig(options={"sigmma": 1}), generator())


def through(name: str, x: Tensor, **options: JsonValue) -> Tensor:
    return corrupt(x, CorruptionConfig(name=name, options=options), generator())


def test_a_permutation_is_the_same_for_every_image_and_loses_no_pixel() -> None:
    x = torch.rand(2, 3, 4, 5, generator=generator())

    moved = through("permute", x, seed=7)

    assert not torch.equal(moved, x)
    assert torch.equal(moved.flatten(2).sort().values, x.flatten(2).sort().values)
    assert torch.equal(through("permute", x[1:], seed=7), moved[1:])
    assert not torch.equal(through("permute", x, seed=8), moved)


def test_a_quarter_turn_is_counterclockwise_and_exact() -> None:
    x = torch.rand(1, 1, 6, 6, generator=generator())

    turned = through("rotate", x, degrees=90.0)

    # bicubic interpolation at the pixels themselves gives them back, up to the rounding of the grid
    assert torch.allclose(turned, torch.rot90(x, 1, (2, 3)), atol=1e-5)


def test_a_turned_image_is_filled_from_its_edge() -> None:
    x = torch.full((1, 1, 8, 12), 0.25)

    assert torch.allclose(through("rotate", x, degrees=37.0), x, atol=1e-6)  # no dark corners


def test_a_mirror_swaps_left_and_right() -> None:
    x = torch.tensor([[[[0.1, 0.2, 0.3]]]])

    assert torch.equal(through("flip", x), torch.tensor([[[[0.3, 0.2, 0.1]]]]))


def test_one_of_gives_every_image_one_corruption_equally_often() -> None:
    x = torch.rand(3000, 1, 1, 2, generator=generator())

    out = through("one_of", x, names=["none", "flip"])

    is_same, is_mirrored = (out == x).flatten(1).all(1), (out == x.flip(3)).flatten(1).all(1)
    assert bool((is_same ^ is_mirrored).all())
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.046)  # 5 sigma of a binomial of 3,000


def test_one_of_passes_options_on_and_names_what_it_does_not_know() -> None:
    x = torch.rand(2, 1, 4, 4, generator=generator())

    out = through("one_of", x, names=["permute"], options={"permute": {"seed": 3}})

    assert torch.equal(out, through("permute", x, seed=3))
    with pytest.raises(RecipeError, match="no corruption 'melt'"):
        through("one_of", x, names=["melt"])
