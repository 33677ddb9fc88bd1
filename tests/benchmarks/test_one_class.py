"""The benchmark of detectors for small images, on small data."""

import re

import pytest
import torch
from torch import Generator, Tensor

from benchmarks.models.one_class import Ours, made_up, one_class, probe_table
from training.errors import DataError
from training.images.mnist import IdxFolder


def lines_of(table: str) -> list[str]:
    """The rows of a table, whose cells are filled up with spaces."""
    return [re.sub(" {2,}", " ", line) for line in table.splitlines()]


def figures_of(table: str, first_cell: str) -> list[float]:
    """The numbers of the table's row that begins so."""
    (line,) = [line for line in lines_of(table) if line.startswith(f"| {first_cell} |")]
    return [float(n) for n in re.findall(r"\d\.\d+|\d+", line.split("|", 2)[2])]


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Upright and lying bars with soft ends, 16x16 bytes, half of each kind, and which is which."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    at = torch.rand(count, 1, 1, generator=generator) * 6 + 5
    length = torch.rand(count, 1, 1, generator=generator) * 3 + 4
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    upright = (2 - (x - at).abs()).clamp(0, 1) * (length - (y - 8).abs()).clamp(0, 1)
    images = torch.where(labels[:, None, None] == 1, upright.transpose(1, 2), upright)
    return (255 * images).round().to(torch.uint8), labels.to(torch.uint8)


@pytest.fixture(scope="module")
def bars() -> IdxFolder:
    (train, train_labels), (test, test_labels) = drawn(600, 0), drawn(200, 1)
    return IdxFolder(train, test, train_labels, test_labels)


@pytest.mark.slow
def test_every_class_is_learnt_and_the_peers_stand_beside(bars: IdxFolder) -> None:
    table = one_class("bars", bars, seeds=(0, 1))

    auroc, _, _, worst, flagged, *_ = figures_of(table, Ours.name)
    assert auroc > 0.99
    assert worst <= auroc
    assert flagged <= 0.05
    assert figures_of(table, "nearest of 2,000 images by the same gradients")[0] > 0.9
    assert sum(line.startswith("| ") for line in table.splitlines()) == 2 + 5  # head, ours and four peers
    assert re.search(r"By class, this detector: 0 [01]\.\d{4}, 1 [01]\.\d{4}\.", table)


@pytest.mark.slow
def test_a_class_that_looks_like_the_others_is_not_told_apart(bars: IdxFolder) -> None:
    mixed = torch.arange(len(bars.train)) // 2 % 2  # each half has bars of both kinds
    other = IdxFolder(bars.train, bars.test, mixed.to(torch.uint8), (torch.arange(len(bars.test)) // 2 % 2).byte())

    assert figures_of(one_class("mixed", other, seeds=(0,)), Ours.name)[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_probes_that_are_simpler_than_any_normal_image_are_found(bars: IdxFolder) -> None:
    table = probe_table("bars", bars, {"bars again": bars.train}, seeds=(0,))

    assert lines_of(table)[2].startswith(f"| probe | {Ours.name} | ")
    for probe in ("black", "one grey", "noise", "inverted"):
        assert figures_of(table, probe)[0] > 0.98
    assert figures_of(table, "bars again")[0] < 0.7


def test_probes_keep_the_size_and_number_of_the_normal_images(bars: IdxFolder) -> None:
    for name, images in made_up(bars.test[:, None], seed=0).items():
        assert images.shape == (200, 1, 16, 16), name
        assert images.dtype == torch.uint8


def test_without_labels_there_are_no_classes(bars: IdxFolder) -> None:
    with pytest.raises(DataError, match="labels are missing"):
        one_class("bars", IdxFolder(bars.train, bars.test, None, bars.test_labels), seeds=(0,))
