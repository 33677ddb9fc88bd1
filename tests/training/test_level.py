"""The estimator of the noise level, fitted to what a network restores best with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from service.contract.noise import root_levels
from service.contract.version import manifest_of
from tests.training.pictures import fit, published, recipe
from training.__main__ import main
from training.restoration.level import LEVELS, Known, look, lost_at, lost_by
from training.restoration.level import fit as fit_estimator
from training.restoration.patches import UNTOLD, Patches
from training.restoration.photos import Pair, read_photos
from training.restoration.recalibrate import photos_for

RNG = np.random.default_rng(5)


def known(count: int) -> Known:
    """Patches whose best level is the square of ten times their first feature; a unit of its root loses a decibel."""
    rows = RNG.random((count, 5))
    best = 0.5 + 6 * rows[:, 0]
    lost = np.abs(np.sqrt(LEVELS)[None] - best[:, None])
    return Known(rows, white=np.full(count, 25.0), lost_db=lost, levels=LEVELS)


def test_the_estimator_finds_the_level_that_loses_least() -> None:
    estimator = fit_estimator(known(400), seed=0)
    held_out = known(50)

    metric = lost_by(estimator, held_out, name="toys")

    assert metric.value < 0.35  # levels are a unit apart on the square root's scale; always 25 loses 1.5
    assert metric.baselines["the level of white noise"] > 4 * metric.value
    roots = root_levels(held_out.rows, estimator)
    assert np.abs(roots - 0.5 - 6 * held_out.rows[:, 0]).mean() < 0.35


@pytest.mark.slow
def test_the_same_seed_gives_the_same_estimator() -> None:
    examples = known(30)

    assert fit_estimator(examples, seed=3) == fit_estimator(examples, seed=3)
    assert fit_estimator(examples, seed=3) != fit_estimator(examples, seed=4)


def test_between_two_levels_what_is_lost_lies_between() -> None:
    examples = Known(np.zeros((3, 1)), np.zeros(3), np.array([[3.0, 1.0, 0.0]] * 3), levels=(0.0, 4.0, 16.0))

    assert lost_at(examples, np.array([0.0, 1.0, 3.0])).tolist() == [3.0, 2.0, 0.5]


def test_a_network_that_does_nothing_loses_nothing_at_any_level(photos: Path) -> None:
    found = recipe("denoise")
    pairs = read_photos(photos, 3, validation=2, least_side=16, progress=False).train

    examples = look(lambda x, _: x, pairs, found, count=5)

    assert examples is not None
    assert examples.rows.shape == (5, 59)
    assert examples.levels == LEVELS
    assert not examples.lost_db.any()


def test_a_network_that_blends_by_the_level_shows_which_is_best(photos: Path) -> None:
    """With the level as the share of the picture that is lost, no level at all loses least."""
    found = recipe("denoise", "degradation.max_sigma=20")
    pairs = read_photos(photos, 3, validation=2, least_side=16, progress=False).train

    examples = look(lambda x, level: x * (1 - level / 100), pairs, found, count=4)

    assert examples is not None
    assert examples.levels == (*(level for level in LEVELS if level < 20), 20.0)
    assert (np.diff(examples.lost_db, axis=1).sum(axis=1) > 0).all()


def test_levels_that_are_far_too_high_are_not_tried_and_count_as_the_last_one(photos: Path) -> None:
    pairs = read_photos(photos, 3, validation=2, least_side=16, progress=False).train
    tried: set[float] = set()

    def blacken(x: torch.Tensor, level: float) -> torch.Tensor:
        tried.add(level)
        return x * (level == 0)

    examples = look(blacken, pairs, recipe("denoise", "degradation.max_sigma=0.1"), count=20)

    assert examples is not None
    assert len(examples.rows) == 21  # one of them a good file that needs nothing
    assert tried == set(examples.levels) == {0.0, 0.1}
    examples = look(blacken, pairs, recipe("denoise"), count=20)
    assert examples is not None
    assert (examples.lost_db[-1, 1:] == examples.lost_db[-1, 1]).all()
    assert max(tried) < max(LEVELS)


def test_tiny_pictures_give_no_estimator() -> None:
    tiny = torch.zeros(3, 9, 40, dtype=torch.uint8)
    assert look(lambda x, _: x, [Pair("x", tiny, tiny)], recipe("denoise"), count=3) is None


@pytest.mark.slow
def test_calibrate_publishes_another_estimator_for_the_same_graph(tmp_path: Path, photos: Path) -> None:
    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "mine") == 0
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(photos.iterdir())[1:]:
        shutil.copy(path, other)

    assert main(["calibrate", "mine", "--data", str(other), "--models", str(tmp_path / "models"), "--quiet"]) == 0

    (first, directory), (second, newer) = published(tmp_path, "mine"), published(tmp_path, "mine", 2)
    assert first.noise is not None
    assert second.noise is not None
    assert second.noise.estimator not in {None, first.noise.estimator}
    assert (newer / "denoise.onnx").read_bytes() == (directory / "denoise.onnx").read_bytes()
    assert {m.name for m in second.metrics} == {m.name for m in first.metrics}
    assert second.provenance.command.endswith("&& python -m training calibrate mine --data other")
    assert second.provenance.config["calibration"]["patches"] == 4  # type: ignore[index,call-overload]  # JSON
    parts = photos_for(first, photos, progress=False).split
    assert parts == first.provenance.data.split  # of the same pictures, the same are held out
    assert photos_for(first, other, progress=False).split != parts


@pytest.mark.slow
@pytest.mark.parametrize("patches", [0, 4])
def test_fit_denoise_publishes_an_estimator_unless_told_not_to(tmp_path: Path, photos: Path, patches: int) -> None:
    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "mine", f"level.patches={patches}") == 0

    manifest, directory = published(tmp_path, "mine")
    assert manifest.noise is not None
    assert (manifest.noise.estimator is not None) == bool(patches)
    assert any(m.name == "denoise_db_lost_by_estimate" for m in manifest.metrics) == bool(patches)
    assert manifest_of(directory) == manifest


def test_a_network_that_is_not_always_told_decides_alone_and_is_measured_so(tmp_path: Path, photos: Path) -> None:
    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "mine", "degradation.untold=0.5") == 0

    manifest, _ = published(tmp_path, "mine")
    assert manifest.noise is not None
    assert (manifest.noise.untold, manifest.noise.estimator) == (UNTOLD, None)
    figures = {m.name.removeprefix("denoise_psnr_db_"): m for m in manifest.metrics}
    assert {f"untold_{s}" for s in (15, 25, 50)} | {f"jpeg_{q}" for q in (10, 30, 50)} <= figures.keys()
    assert figures["untold_25"].baselines == {"told the level": figures["sigma_25"].value}
    assert figures["jpeg_10"].baselines["unprocessed"] < figures["jpeg_50"].baselines["unprocessed"]
    code = main(["calibrate", "mine", "--data", str(photos), "--models", str(tmp_path / "models"), "--quiet"])
    assert code != 0


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_so_many_patches_come_without_a_level(photos: Path, share: float) -> None:
    made = recipe("denoise", f"degradation.untold={share}", "training.batch_size=64")
    pairs = read_photos(photos, 3, validation=2, least_side=16, progress=False).train
    patches = Patches(pairs, made)

    batches = [patches.draw(torch.Generator().manual_seed(i)) for i in range(5)]

    sigma = torch.cat([batch.sigma for batch in batches])
    assert (sigma == UNTOLD).float().mean().item() == pytest.approx(share, abs=0.1)  # 3.6 sigma of 320
    assert ((sigma == UNTOLD) | (sigma >= 0)).all()
    plain = Patches(pairs, recipe("denoise", "training.batch_size=64")).draw(torch.Generator().manual_seed(0))
    assert torch.equal(plain.x_in, batches[0].x_in)  # the noise is the same
