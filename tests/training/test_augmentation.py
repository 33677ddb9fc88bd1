"""Moved images: what moves, by how much, and what stays."""

import pytest
import torch

from training.config import AugmentationConfig
from training.images.augmentation import augment

STILL = {"rotate_degrees": 0.0, "scale": 0.0, "shear": 0.0, "shift_pixels": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x() -> torch.Tensor:
    """Smooth images: bicubic interpolation reproduces a slope, (8, 2, 12, 16)."""
    slope = torch.arange(12.0)[:, None] / 40 + torch.arange(16.0) / 40
    return slope.expand(8, 2, 12, 16).clone()


def test_a_share_of_zero_leaves_every_image_as_it_is(x: torch.Tensor) -> None:
    assert augment(x, AugmentationConfig(share=0.0), generator()) is x


def test_limits_of_zero_move_nothing(x: torch.Tensor) -> None:
    config = AugmentationConfig.model_validate({"share": 1.0, **STILL})

    torch.testing.assert_close(augment(x, config, generator()), x, atol=1e-5, rtol=0)  # weights of the interpolation


def test_a_share_of_the_images_is_moved_and_the_rest_is_not() -> None:
    x = torch.rand((2000, 1, 6, 6), generator=generator())

    moved = augment(x, AugmentationConfig(share=0.3), generator(1))

    is_moved = (moved != x).flatten(1).any(1)
    assert is_moved.float().mean().item() == pytest.approx(0.3, abs=0.052)  # 5 sigma of a binomial of 2,000


def test_a_shift_moves_a_slope_by_at_most_its_limit(x: torch.Tensor) -> None:
    config = AugmentationConfig.model_validate({**STILL, "share": 1.0, "shift_pixels": 2.0})

    difference = (augment(x, config, generator()) - x)[:, :, 3:-3, 3:-3]  # inside: the edge repeats outwards

    by_image = difference.flatten(1)
    assert (
        by_image.max(1).values - by_image.min(1).values
    ).max() < 1e-5  # a slope shifted is the slope plus a constant
    assert by_image.abs().max() <= 2 * 2.0 / 40  # two pixels right and two down, 1/40 each
    assert by_image.abs().max() > 0.01


@pytest.mark.parametrize(("height", "width"), [(33, 33), (33, 51)])
def test_turning_keeps_a_centred_disc(height: int, width: int) -> None:
    rows = torch.arange(float(height))[:, None] - height // 2
    columns = torch.arange(float(width)) - width // 2
    disc = torch.exp(-(rows**2 + columns**2) / 40).expand(4, 1, height, width)
    config = AugmentationConfig.model_validate({**STILL, "share": 1.0, "rotate_degrees": 90.0})

    torch.testing.assert_close(augment(disc, config, generator()), disc.clone(), atol=0.012, rtol=0)  # of bicubic


def test_the_same_generator_gives_the_same_images_within_range(x: torch.Tensor) -> None:
    config = AugmentationConfig(share=1.0)

    first, again = augment(x, config, generator(3)), augment(x, config, generator(3))

    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
