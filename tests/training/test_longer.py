"""Training longer: with the weights of a published model, or with more steps of the same run."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.training.conftest import write_photos
from tests.training.pictures import fit, published
from training.architectures.restorer import Restorer
from training.restoration.config import RestorationTraining
from training.restoration.patches import Patches
from training.schedule import learning_rate_factor
from training.start import load_start

pytestmark = pytest.mark.slow  # whole trainings

STANDING_STILL = (
    *("training.learning_rate=1e-12", "training.muon_learning_rate=1e-12", "training.steps=1"),
    "level.patches=0",  # no estimator of the noise
)


def answers(directory: Path) -> np.ndarray:
    x = np.random.default_rng(0).random((2, 3, 16, 24), np.float32)
    session = onnxruntime.InferenceSession((directory / "denoise.onnx").read_bytes())
    return np.asarray(session.run(None, {"x": x, "sigma": np.full(2, 25, np.float32)})[0])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("pictures") / "photos")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with the published model `mine`."""
    home = tmp_path_factory.mktemp("home")
    assert fit(home, "denoise", "--data", str(photos), "--name", "mine", "training.muon_learning_rate=0.1") == 0
    return home


def test_a_training_begins_with_the_weights_of_a_published_model(home: Path, tmp_path: Path, photos: Path) -> None:
    before, directory = published(home, "mine")
    start_from = f"training.start_from={directory}"

    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "next", start_from, *STANDING_STILL) == 0

    after, longer = published(tmp_path, "next")
    np.testing.assert_allclose(answers(longer), answers(directory), atol=1e-6)  # float32 steps of 1e-12
    start = after.provenance.start
    assert start is not None
    assert (start.name, start.version, start.sha256) == ("mine", 1, before.tasks["denoise"].sha256)
    assert (start.images_seen, after.provenance.images_seen) == (24, 4)
    assert "started from the weights of mine, version 1" in (longer / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    "larger",
    [("network.widths=[12, 24]",), ("network.blocks=[2, 3]",), ("network.widths=[9, 8]", "network.blocks=[1, 2]")],
)
def test_a_larger_network_begins_as_the_function_of_the_smaller_one(
    larger: tuple[str, ...], home: Path, tmp_path: Path, photos: Path
) -> None:
    before, directory = published(home, "mine")
    start_from = f"training.start_from={directory}"

    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "large", start_from, *larger, *STANDING_STILL) == 0

    after, large = published(tmp_path, "large")
    assert after.provenance.parameters > before.provenance.parameters
    np.testing.assert_allclose(answers(large), answers(directory), atol=1e-5)  # a step of 1e-12 wakes nothing up


def test_what_is_new_in_a_larger_network_learns(home: Path) -> None:
    _, directory = published(home, "mine")
    small = Restorer(3, widths=(8, 8), blocks=(1, 1))
    load_start(small, directory)

    torch.manual_seed(0)
    large = Restorer(3, widths=(12, 12), blocks=(1, 2))
    load_start(large, directory)
    x, sigma = torch.rand(2, 3, 16, 16), torch.tensor([5.0, 25.0])
    torch.testing.assert_close(large(x, sigma), small(x, sigma))
    large(x, sigma).square().sum().backward()

    read_by_old = large.before[0][0].body[1].weight.grad[:8, 8:]  # type: ignore[index]
    assert read_by_old.abs().sum() > 0


def test_a_start_that_cannot_be_is_explained(
    home: Path, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("denoise", "--data", str(photos), "--name")
    shutil.copytree(home / "models", tmp_path / "models")
    _, directory = published(tmp_path, "mine")
    start = f"training.start_from={directory}"

    for other, message in (
        (["network.widths=[6, 8]"], "after.0.0.body.1.bias is [8], the recipe's is [6]"),
        (["network.widths=[8, 8, 8]", "network.blocks=[1, 1, 1]"], "down.1.bias is not there, the recipe's is [8]"),
        (["data.channels=1"], "head.bias is [12], the recipe's is [4]"),
    ):
        assert fit(tmp_path, *arguments, "other", "--restart", start, *other) == 1
        assert message in capsys.readouterr().err
    assert fit(tmp_path, *arguments, "nothing", f"training.start_from={photos}") == 1
    assert "is no published model" in capsys.readouterr().err
    (directory / "denoise.onnx").write_bytes(b"another graph")
    assert fit(tmp_path, *arguments, "changed", start) == 1
    assert "is not the file that" in capsys.readouterr().err


def test_a_run_goes_on_to_more_steps_as_if_it_had_been_asked_for_them_at_first(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = ("training.schedule=wsd", "training.warmup_share=0", "level.patches=0")  # patches are counted
    arguments = ("denoise", "--data", str(photos), *schedule, "--name")
    assert fit(tmp_path, *arguments, "whole", "training.steps=20") == 0
    monkeypatch.setattr("training.trainer.CHECKPOINT_INTERVAL_S", 0.0)
    real, steps = Patches.draw, 0

    def draw_and_die(self: Patches, generator: torch.Generator) -> object:
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KeyboardInterrupt
        return real(self, generator)

    monkeypatch.setattr(Patches, "draw", draw_and_die)
    assert fit(tmp_path, *arguments, "longer", "training.steps=10") == 130

    assert fit(tmp_path, *arguments, "longer", "training.steps=20") == 0

    whole, longer = (published(tmp_path, name)[0].tasks["denoise"].sha256 for name in ("whole", "longer"))
    assert steps == 8 + 13
    assert whole == longer
    assert fit(tmp_path, *arguments, "longer", "training.steps=40") == 1
    assert "training.steps was 20, now 40): its learning rate has depended on them" in capsys.readouterr().err


def test_wsd_stays_and_falls_over_the_last_fifth() -> None:
    config = RestorationTraining(schedule="wsd", warmup_share=0.1)

    factors = [learning_rate_factor(step, 100, config) for step in (0, 10, 79, 80, 85, 100)]

    assert factors == pytest.approx([1 / 11, 1.0, 1.0, 1.0, 0.5, 0.0])
