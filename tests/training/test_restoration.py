"""Models for pictures of any size: from folders of photographs or pairs to a published version."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.training.pictures import fit, published, recipe
from training.architectures.restorer import Restorer, reach
from training.config import RecipeError
from training.errors import DataError
from training.losses import LOSSES
from training.measure.pictures import SizedGraph
from training.measure.psnr import hidden_error
from training.recipe import load_recipe
from training.restoration.blind import hide
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import DEGRADATIONS, TOLD_AS_ADDED
from training.restoration.patches import Patches
from training.restoration.photos import Pair, read_pairs, read_photos


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_denoise_is_told_how_noisy_and_takes_any_size(tmp_path: Path, photos: Path, channels: int) -> None:
    assert fit(tmp_path, "denoise", "--data", str(photos), "--name", "mine", f"data.channels={channels}") == 0

    manifest, directory = published(tmp_path, "mine")
    assert manifest.noise is not None
    assert (manifest.noise.min_sigma, manifest.noise.max_sigma) == (0.0, 55.0)
    assert (manifest.input.channels, manifest.input.height, manifest.input.multiple_of) == (channels, None, 4)
    assert manifest.input.halo > 0
    assert [spec.name for spec in manifest.tasks["denoise"].inputs] == ["x", "sigma"]
    assert manifest.tasks["denoise"].inputs[0].shape == ("batch", channels, "height", "width")
    measured = [m for m in manifest.metrics if "_sigma_" in m.name]
    assert {m.name for m in measured} == {
        f"denoise_{metric}_sigma_{s}" for metric in ("psnr_db", "ssim") for s in (15, 25, 50)
    }
    assert all(m.baselines.keys() == {"unprocessed", "median 3x3"} for m in measured)
    split = manifest.provenance.data.split
    assert (split.train, split.validation, split.test) == (4, 2, 0)  # training watches them: they are no test
    assert all("2 validation pictures" in m.data for m in measured)
    assert "The figures are of the validation images" in (directory / "README.md").read_text("utf-8")
    assert (directory / "curve.png").read_bytes().startswith(b"\x89PNG")
    session = onnxruntime.InferenceSession(directory / "denoise.onnx", providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 4, 8), (3, 20, 12)):
        x = np.zeros((batch, channels, height, width), np.float32)
        (x_hat,) = session.run(None, {"x": x, "sigma": np.full(batch, 25, np.float32)})
        assert x_hat.shape == x.shape


@pytest.mark.slow
def test_enhance_is_twice_as_large(tmp_path: Path, photos: Path) -> None:
    assert fit(tmp_path, "enhance", "--data", str(photos), "--scale", "2", "--name", "large") == 0

    manifest, directory = published(tmp_path, "large")
    assert manifest.enhance is not None
    assert (manifest.enhance.scale, manifest.enhance.luma_only) == (2, True)
    graph = SizedGraph((directory / "enhance.onnx").read_bytes(), manifest.input.multiple_of, 2)
    assert graph(torch.rand(1, 1, 13, 21), 0.0).shape == (1, 1, 26, 42)


@pytest.mark.slow
def test_restore_learns_what_the_pairs_show(tmp_path: Path, photos: Path) -> None:
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in photos.glob("?.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 2).save(dark / path.name)

    code = fit(
        tmp_path, "restore", "--noisy", str(dark), "--clean", str(photos), "--name", "light",
        "training.steps=150", "training.learning_rate=1e-2",
    )  # fmt: skip

    assert code == 0
    metric = next(m for m in published(tmp_path, "light")[0].metrics if m.name == "denoise_psnr_db")
    assert metric.value > metric.baselines["unprocessed"] + 3  # dB


@pytest.mark.slow
def test_blind_learns_from_noisy_pictures_alone(tmp_path: Path, photos: Path) -> None:
    assert fit(tmp_path, "blind", "--data", str(photos), "--name", "noisy", "training.steps=60") == 0

    manifest = published(tmp_path, "noisy")[0]
    assert [spec.name for spec in manifest.tasks["denoise"].inputs] == ["x"]
    (metric,) = manifest.metrics
    assert metric.name == "denoise_hidden_pixel_mse"
    assert metric.baselines.keys() == {"mean of the eight around it"}


def test_hidden_pixels_are_those_that_change_and_come_from_nearby() -> None:
    x = torch.arange(2 * 40 * 40, dtype=torch.float32).reshape(2, 1, 40, 40)

    hidden = hide(x, torch.Generator().manual_seed(0))

    changed = hidden.x_in != x
    inner = (..., slice(2, -2), slice(2, -2))  # at the edge a pixel may stand in for itself
    assert torch.equal(changed[inner], hidden.mask[inner])
    assert hidden.mask.float().mean().item() == pytest.approx(0.015, abs=0.005)
    away = (hidden.x_in - x)[changed].abs()
    assert set((away % 40).tolist()) <= {0, 1, 2, 38, 39}
    assert away.max() <= 2 * 40 + 2


def test_a_network_that_only_copies_does_not_get_away_with_it() -> None:
    noisy = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(1))

    copying = hidden_error(lambda x: x, noisy, torch.Generator().manual_seed(2))
    ignoring = hidden_error(torch.zeros_like, noisy, torch.Generator().manual_seed(2))

    assert copying == pytest.approx(2.0, rel=0.15)  # two independent noises
    assert ignoring == pytest.approx(1.0, rel=0.15)


@pytest.mark.slow
def test_a_fit_that_was_killed_ends_with_the_same_graph(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(tmp_path, "denoise", "level.patches=0", "--data", str(photos), "--name", "whole") == 0
    monkeypatch.setattr("training.trainer.CHECKPOINT_INTERVAL_S", 0.0)
    real, steps = Patches.draw, 0

    def draw_and_die(self: Patches, generator: torch.Generator) -> object:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return real(self, generator)

    monkeypatch.setattr(Patches, "draw", draw_and_die)
    assert fit(tmp_path, "denoise", "level.patches=0", "--data", str(photos), "--name", "killed") == 130
    assert not (tmp_path / "models" / "killed").exists()
    assert fit(tmp_path, "denoise", "level.patches=0", "--data", str(photos), "--name", "killed") == 0

    assert steps == 4 + 1 + 2
    whole, killed = (published(tmp_path, name)[0].tasks["denoise"].sha256 for name in ("whole", "killed"))
    assert whole == killed


@pytest.mark.slow
def test_another_recipe_in_the_same_run_is_refused_but_a_new_summary_is_not(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("denoise", "--data", str(photos), "--name", "mine")
    assert fit(tmp_path, *arguments) == 0
    assert fit(tmp_path, *arguments, "degradation.max_sigma=20") == 1
    assert "degradation.max_sigma was 55.0, now 20.0" in capsys.readouterr().err
    assert fit(tmp_path, *arguments, "summary=better words") == 0
    assert published(tmp_path, "mine", 2)[0].summary == "better words"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("denoise",), "Give --data FOLDER"),
        (("restore",), "--noisy DIR and --clean DIR"),
        (("denoise", "--data", "/nowhere"), "no such folder"),
        (("enhance", "scale=99"), "less than or equal to 8"),
        (("denoise", "degradation.kinds={sand = 1.0}"), "no kind of noise 'sand'"),
        (("denoise", "data.validation=("), "regular expression"),
    ],
)
def test_what_cannot_be_done_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert fit(tmp_path, *arguments) == 1

    assert sentence in capsys.readouterr().err


def test_pictures_that_cannot_be_used_are_named(photos: Path) -> None:
    found = read_photos(photos, 3, validation=2, least_side=16, progress=False)

    assert (len(found.train), len(found.validation)) == (4, 2)
    assert {pair.name for pair in found.train}.isdisjoint(pair.name for pair in found.validation)
    assert len(found.skipped) == 2
    assert "smaller than 16 pixels" in " ".join(map(str, found.skipped))


def test_pairs_need_one_size_and_the_same_names(tmp_path: Path, photos: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in list(photos.glob("?.png"))[:4]:
        Image.open(path).rotate(90, expand=True).save(other / path.name)

    with pytest.raises(DataError, match="a pair has one size"):
        read_pairs(other, photos, 1, validation=1, least_side=8, progress=False)


@pytest.mark.parametrize("name", sorted(DEGRADATIONS.keys() - TOLD_AS_ADDED))
def test_noise_has_the_strength_that_the_network_is_told(name: str) -> None:
    x = torch.full((4, 1, 96, 96), 0.5)
    sigma = torch.tensor([0.0, 5.0, 10.0, 20.0])

    noisy = DEGRADATIONS[name](x, sigma, torch.Generator().manual_seed(0))

    found = (noisy - x).std(dim=(1, 2, 3)) * 255
    if name == "jpeg":  # which changes it a little
        assert (found[1:] < 1.2 * sigma[1:]).all()
        assert (found[1:] > sigma[1:] / 3).all()
    else:
        torch.testing.assert_close(found, sigma, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("scale", [1, 2])
def test_reach_is_the_halo_that_tiles_need(scale: int) -> None:
    torch.manual_seed(0)
    network = Restorer(1, scale=scale, takes_sigma=False, widths=(4, 4), blocks=(1, 1)).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    cell, halo = network.multiple_of, -(-reach(network) // network.multiple_of) * network.multiple_of
    x = torch.rand(1, 1, 40 * cell, 3 * cell, dtype=torch.float64)
    with torch.no_grad():
        whole = network(x)
        part = network(x[:, :, 20 * cell - halo : 21 * cell + halo])
        torch.testing.assert_close(
            part[:, :, halo * scale : (halo + cell) * scale], whole[:, :, 20 * cell * scale : 21 * cell * scale]
        )
        near = halo - cell  # a cell less is not enough
        cut = network(x[:, :, 20 * cell - near : 21 * cell + near])
        assert not torch.allclose(
            cut[:, :, near * scale : (near + cell) * scale], whole[:, :, 20 * cell * scale : 21 * cell * scale]
        )


def test_patches_of_enhance_lie_on_one_another(photos: Path) -> None:
    found = recipe("enhance")
    patches = Patches(read_photos(photos, 1, validation=2, least_side=32, progress=False).train, found)

    batch = patches.draw(torch.Generator().manual_seed(0))

    assert batch.x_in.shape == (4, 1, 16, 16)
    assert batch.x.shape == (4, 1, 32, 32)
    smaller = torch.nn.functional.avg_pool2d(batch.x, 2)
    assert (smaller - batch.x_in)[..., 2:-2, 2:-2].abs().mean() < 0.05


def test_of_several_candidates_the_patch_with_most_detail_is_taken() -> None:
    half_empty = torch.full((1, 64, 256), 128, dtype=torch.uint8)
    half_empty[:, :, 128:] = torch.randint(
        256, (1, 64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pairs = [Pair("x", half_empty, half_empty)]

    def busy(candidates: int) -> float:
        found = recipe("restore", "data.channels=1", "training.batch_size=64", f"training.candidates={candidates}")
        x = Patches(pairs, found).draw(torch.Generator().manual_seed(0)).x
        return float((x.std(dim=(1, 2, 3)) > 0).float().mean())

    # A patch of 16 touches the noise at 127 of 241 places: with p = 0.53 each, and 1 - 0.47 ** 4 = 0.95 of four.
    assert busy(1) == pytest.approx(0.53, abs=0.19)  # 3 sigma of 64 draws
    assert busy(4) == pytest.approx(0.95, abs=0.08)


def test_the_psnr_loss_weighs_a_decibel_of_every_picture_the_same() -> None:
    x = torch.zeros(2, 1, 4, 4)
    error = torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    x_hat = (x + error).requires_grad_()

    loss = LOSSES["psnr"](x_hat, x)
    loss.backward()  # type: ignore[no-untyped-call]  # of torch

    floor = (1 / 255) ** 2 / 12
    assert loss.item() == pytest.approx(0.5 * (np.log(1e-2 + floor) + np.log(1e-4 + floor)), rel=1e-6)
    # d log(e^2) / de = 2 / e: the closer one is pulled ten times as hard, where mse would pull it a tenth
    pull = x_hat.grad
    assert pull is not None
    assert (pull[1].mean() / pull[0].mean()).item() == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("loss", ["psnr", "rmse"])
def test_a_recipe_without_clean_pictures_takes_no_loss_of_whole_images(loss: str) -> None:
    with pytest.raises(RecipeError, match="take mse or l1"):
        recipe("blind", f"training.loss={loss}")


def test_recipes_of_both_kinds_are_checked() -> None:
    with pytest.raises(RecipeError, match="steps"):
        recipe("denoise", "training.steps=0")
    assert not isinstance(load_recipe("digits"), RestorationRecipe)
