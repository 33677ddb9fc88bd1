"""What pictures are spoiled by in training."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.restoration.degradations import (
    DEGRADATIONS,
    TOLD_AS_ADDED,
    added,
    demosaiced,
    kept,
    spoil,
    through_jpeg,
    to_linear,
    to_srgb,
)

EIGHT_BITS = sorted(DEGRADATIONS.keys() - {"gaussian"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, *, count: int = 8, channels: int = 3, side: int = 64) -> Tensor:
    return torch.full((count, channels, side, side), level)


def ramp(count: int = 4) -> Tensor:
    """Smooth colour, so that blocks of JPEG show."""
    line = torch.linspace(0.1, 0.9, 64)
    return torch.stack([line.expand(64, 64), line[:, None].expand(64, 64), line.flip(0).expand(64, 64)]).repeat(
        count, 1, 1, 1
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_every_kind_is_drawn_from_the_generator_alone(kind: str, channels: int) -> None:
    x, sigma = flat(0.5, channels=channels), torch.full((8,), 20.0)

    first, again, other = (DEGRADATIONS[kind](x, sigma, generator(seed)) for seed in (0, 0, 1))

    assert first.shape == x.shape
    assert torch.equal(first, again)
    survives = {"clean", "compressed", "finely_compressed"}  # of a flat picture any JPEG is the same
    assert kind in survives or not torch.equal(first, other)
    assert torch.equal(x, flat(0.5, channels=channels))


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_files_hold_whole_steps_between_black_and_white(kind: str) -> None:
    noisy = DEGRADATIONS[kind](flat(0.98), torch.full((8,), 50.0), generator())

    assert 0 <= noisy.min() <= noisy.max() <= 1
    torch.testing.assert_close(noisy * 255, (noisy * 255).round(), atol=1e-4, rtol=0)


def test_light_and_srgb_are_inverse_and_as_the_standard_says() -> None:
    x = torch.linspace(0, 1, 256)

    torch.testing.assert_close(to_srgb(to_linear(x)), x, atol=1e-6, rtol=0)
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-5)  # IEC 61966-2-1
    assert to_linear(torch.tensor(0.04)).item() == pytest.approx(0.04 / 12.92)


def test_a_mosaic_keeps_what_it_sees_and_fills_the_rest_by_neighbours() -> None:
    noise = torch.zeros(3, 6, 6)
    noise[:, 2, 2] = 1.0  # a red site: green and blue do not see it

    filled = demosaiced(noise, row=0, column=0)

    expected = torch.zeros(6, 6)
    expected[1:4, 1:4] = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]])
    torch.testing.assert_close(filled[0], expected)
    assert not filled[1:].any()
    torch.testing.assert_close(demosaiced(torch.ones(3, 6, 6), row=1, column=0), torch.ones(3, 6, 6))


def test_noise_of_a_camera_is_correlated_and_depends_on_the_light() -> None:
    sigma = torch.full((64,), 20.0)
    dark, middle = (DEGRADATIONS["camera"](flat(level, count=64), sigma, generator(3)) - level for level in (0.1, 0.5))

    neighbours = float((middle[..., 1:] * middle[..., :-1]).mean() / middle.square().mean())
    white = DEGRADATIONS["clipped"](flat(0.5, count=64), sigma, generator(3)) - 0.5
    assert neighbours > 0.3  # of white noise 0
    assert abs(float((white[..., 1:] * white[..., :-1]).mean() / white.square().mean())) < 0.01
    assert dark.std() > 1.2 * middle.std()  # there is less of it in the dark, but the tone curve is steep there
    levels = added(middle + 0.5, flat(0.5, count=64))
    assert levels.min() < 5 < levels.max()  # weak ones and strong ones


def test_halved_colour_takes_the_noise_of_colour_away() -> None:
    noisy = DEGRADATIONS["clipped"](flat(0.5, count=1), torch.full((1,), 20.0), generator())[0]
    chroma = {
        sampling: float((image[2] - image.mean(0)).std())
        for sampling in (0, 2)
        for image in [through_jpeg(noisy, 95, sampling)]
    }

    assert chroma[2] < 0.7 * chroma[0]


def test_lower_qualities_spoil_more() -> None:
    x = (ramp(1)[0] * 255).round() / 255
    errors = [float((through_jpeg(x, quality, 2) - x).square().mean()) for quality in (95, 50, 10)]

    assert errors == sorted(errors)


def test_blocks_of_some_files_begin_anywhere() -> None:
    """Someone cropped them: the steps between blocks are then not at every eighth pixel."""
    x = ramp(64)
    made = DEGRADATIONS["compressed"](x, torch.zeros(64), generator())

    steps = (made[:, 1] - x[:, 1]).diff(dim=1).abs().mean(dim=2)[:, :56].reshape(64, 7, 8).mean(dim=1)
    aligned = (steps.argmax(dim=1) == 7).float().mean()
    assert 0.5 < aligned < 0.95


def test_a_photograph_that_was_always_a_file_is_sent_as_it_is_or_saved_again() -> None:
    x = ramp(60)

    sent, files = kept(x, generator())

    assert (added(files, x) > 0).all()
    assert float((added(sent, files) == 0).float().mean()) == pytest.approx(1 / 3, abs=0.2)  # 3 sigma of 60
    assert added(sent, files).median() < added(files, x).median()  # on the same grid, most of it is lost already


def test_the_level_told_is_that_asked_for_or_that_added() -> None:
    x, sigma = ramp(8), torch.full((8,), 30.0)
    for kind in DEGRADATIONS:
        noisy, told = spoil(x, sigma, {kind: 1.0}, generator())
        expected = added(noisy, x) if kind in TOLD_AS_ADDED else sigma
        torch.testing.assert_close(told, expected)


def test_kinds_come_in_their_shares() -> None:
    x = flat(0.5, count=400, channels=1, side=8)
    noisy, _ = spoil(x, torch.full((400,), 20.0), {"compressed": 1.0, "gaussian": 3.0}, generator())

    is_noisy = (noisy - x).flatten(1).std(dim=1) > 0.01
    assert float(is_noisy.float().mean()) == pytest.approx(0.75, abs=3 * np.sqrt(0.75 * 0.25 / 400))
