"""From a folder of good images to a published detector, as a user does it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.contract.manifest import Manifest
from service.contract.version import manifest_of
from training.__main__ import main
from training.anomaly.config import PartsConfig
from training.anomaly.parts import choose_input
from training.config import RecipeError
from training.images.split import groups_of

QUICK = ("detector.bank=100",)


def write_stripes(folder: Path, count: int, *, seed: int, damaged: bool = False, masks: Path | None = None) -> Path:
    """Grey images of soft stripes, 32x28, with a flat square in the damaged ones."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        x = 128 + 70 * np.sin(np.arange(32) / 2 + rng.uniform(0, 6.3)) + rng.normal(0, 5, (28, 32))
        if damaged:
            x[10:18, 12:20] = 128
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03}.png")
        if masks is not None:
            masks.mkdir(exist_ok=True)
            mask = np.zeros((28, 32), np.uint8)
            mask[10:18, 12:20] = 255
            Image.fromarray(mask).save(masks / f"{i:03}_mask.png")
    return folder


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good images, defects, masks, and a model that was fitted from them."""
    home = tmp_path_factory.mktemp("workshop")
    write_stripes(home / "good", 60, seed=0)
    write_stripes(home / "defects", 10, seed=1, damaged=True, masks=home / "masks")
    status = main([
        "fit", "anomaly", "--data", str(home / "good"), "--defects", str(home / "defects"), "--masks",
        str(home / "masks"), "--name", "stripes", "--runs", str(home / "runs"), "--models", str(home / "models"),
        "--quiet", *QUICK,
    ])  # fmt: skip
    assert status == 0
    return home


def read_manifest(version: Path) -> Manifest:
    return manifest_of(version)


def test_a_folder_of_good_images_becomes_a_model_with_the_anomaly_task_alone(workshop: Path) -> None:
    manifest = read_manifest(workshop / "models/stripes/1")

    assert set(manifest.tasks) == {"anomaly"}
    assert (manifest.input.height, manifest.input.width, manifest.input.channels) == (28, 32, 1)
    assert manifest.anomaly is not None
    assert len(manifest.anomaly.scores) == len(manifest.anomaly.map_peaks) == 60
    learnt = manifest.anomaly.learnt
    assert learnt is not None
    assert (learnt.widths, learnt.heights) == ((32, 32), (28, 28))
    assert 0.45 < learnt.looks["brightness"][0] < learnt.looks["brightness"][1] < 0.55
    assert manifest.provenance.data.split.train == manifest.provenance.data.images == 60


def test_with_defects_and_masks_the_card_tells_how_well_they_are_found(workshop: Path) -> None:
    value_by_name = {m.name: m.value for m in read_manifest(workshop / "models/stripes/1").metrics}

    assert value_by_name["auroc"] > 0.9
    assert value_by_name["pixel_auroc"] > 0.9
    assert {"aupro", "f1_max", "flagged_at_0.02", "found_at_0.02"} <= value_by_name.keys()
    assert value_by_name["flagged_at_0.1"] < 0.25  # 6 of 60 are expected, and more than 14 come once in 1,000
    assert "| auroc" in (workshop / "models/stripes/1/README.md").read_text()


def test_a_calibration_too_small_for_the_rate_says_so_on_the_card(workshop: Path) -> None:
    assert any("were kept for calibration" in limit for limit in read_manifest(workshop / "models/stripes/1").limits)


def test_a_finished_run_can_be_published_again_as_the_next_version(workshop: Path, tmp_path: Path) -> None:
    status = main(["publish", str(workshop / "runs/stripes"), "--models", str(tmp_path)])

    assert status == 0
    again = read_manifest(tmp_path / "stripes/1")
    assert again.tasks == read_manifest(workshop / "models/stripes/1").tasks


def test_a_stage_that_a_detector_does_not_have_is_refused_with_what_works(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(workshop / "runs/stripes")]) == 1

    assert "is a run of kind anomaly, which has no stages: give its `fit` command again" in capsys.readouterr().err


def test_the_card_tells_that_every_image_taught_and_was_scored_by_a_detector_that_it_did_not_teach(
    workshop: Path,
) -> None:
    version = workshop / "models/stripes/1"

    auroc = next(m for m in read_manifest(version).metrics if m.name == "auroc")

    card = (version / "README.md").read_text()
    assert auroc.data == "60 good images, each by a detector that it did not teach, and 10 images of defects"
    assert auroc.data in card
    assert "all for training; each was scored for the calibration by a detector trained without it" in card


@pytest.mark.slow
def test_without_defects_no_figure_says_how_well_they_are_found(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([
        "fit", "anomaly", "--data", str(workshop / "good"), "--name", "blind", "--runs", str(workshop / "runs"),
        "--models", str(workshop / "models"), "--quiet", *QUICK,
    ])  # fmt: skip

    manifest = read_manifest(workshop / "models/blind/1")
    assert status == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: python -m service --models-dir {workshop / 'models'}"
    assert {m.name for m in manifest.metrics} == {f"flagged_at_{rate}" for rate in ("0.01", "0.02", "0.05", "0.1")}
    assert any("was not measured" in limit for limit in manifest.limits)


@pytest.mark.slow
def test_what_may_vary_is_learnt_and_every_picture_still_counts_once(tmp_path: Path) -> None:
    write_stripes(tmp_path / "good", 20, seed=0)
    status = main([
        "fit", "anomaly", "--data", str(tmp_path / "good"), "--name", "lit", "--runs", str(tmp_path / "runs"),
        "--models", str(tmp_path / "models"), "--quiet", "vary.light=0.4", "vary.copies=2", *QUICK,
    ])  # fmt: skip

    manifest = read_manifest(tmp_path / "models/lit/1")
    assert status == 0
    assert manifest.anomaly is not None
    assert manifest.anomaly.learnt is not None
    assert len(manifest.anomaly.scores) == manifest.provenance.data.images == 20
    low, high = manifest.anomaly.learnt.looks["brightness"]
    assert low < 0.4
    assert high > 0.6


def test_a_black_mask_to_look_through_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stripes(tmp_path / "good", 20, seed=0)
    Image.new("L", (32, 28)).save(tmp_path / "look.png")

    status = main([
        "fit", "anomaly", "--data", str(tmp_path / "good"), "--look", str(tmp_path / "look.png"), "--runs",
        str(tmp_path / "runs"), "--models", str(tmp_path / "models"), "--quiet",
    ])  # fmt: skip

    assert status == 1
    assert "look.png is black: nothing would be looked at" in capsys.readouterr().err


def test_without_a_folder_the_message_says_which_option_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "anomaly"]) == 1
    assert "--data FOLDER" in capsys.readouterr().err


def test_a_defect_without_its_mask_is_named(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workshop / "empty").mkdir(exist_ok=True)

    status = main([
        "fit", "anomaly", "--data", str(workshop / "good"), "--defects", str(workshop / "defects"), "--masks",
        str(workshop / "empty"), "--runs", str(workshop / "runs2"), "--models", str(workshop / "models2"), "--quiet",
    ])  # fmt: skip

    assert status == 1
    assert "no mask for 000.png" in capsys.readouterr().err
    assert not (workshop / "models2").exists()


@pytest.mark.parametrize(
    ("size", "mode", "expected"),
    [
        ((400, 200), "RGB", (3, 192, 352, "exact")),  # the area of 256x256 at two to one, in steps of 32
        ((20, 28), "L", (1, 28, 20, "exact")),
        ((32, 28), "RGB", (3, 224, 288, "exact")),  # rounded sides have other proportions than the images, all alike
        ((600, 600), "L", (1, 256, 256, "exact")),
    ],
)
def test_the_size_follows_the_proportions_of_the_images(
    tmp_path: Path, size: tuple[int, int], mode: str, expected: tuple[int, int, int, str]
) -> None:
    Image.new(mode, size).save(tmp_path / "a.png")

    found = choose_input([tmp_path / "a.png"], PartsConfig())

    assert (found.channels, found.height, found.width, found.resize) == expected


def test_images_of_different_proportions_are_padded_and_not_stretched(tmp_path: Path) -> None:
    for name, size in (("a", (300, 200)), ("b", (200, 300)), ("c", (300, 200))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")

    assert choose_input(sorted(tmp_path.glob("*.png")), PartsConfig()).resize == "fit"


def test_groups_come_from_folders_expressions_or_a_table(tmp_path: Path) -> None:
    paths = [Path("tile1/a.png"), Path("tile1/b.png"), Path("tile2/a.png")]
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ntile1/a.png,x\ntile1/b.png,x\ntile2/a.png,y\n")

    assert groups_of(paths, "folder") == ["tile1", "tile1", "tile2"]
    assert groups_of(paths, r"tile(\d)") == ["1", "1", "2"]
    assert groups_of(paths, str(table)) == ["x", "x", "y"]


@pytest.mark.parametrize("rule", ["tile", "(", r"nothing(\d)", "missing.csv"])
def test_a_rule_that_gives_no_groups_is_refused(rule: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.groups"):
        groups_of([Path("tile1/a.png")], rule)


def recalibrate(workshop: Path, *more: str, data: str = "more") -> int:
    folder = workshop / data
    if not folder.exists():
        write_stripes(folder, 30, seed=5)
    return main(["calibrate", "stripes", "--data", str(folder), "--models", str(workshop / "models"), "--quiet", *more])


def test_calibrating_a_model_anew_is_a_new_version_with_the_same_graph(workshop: Path) -> None:
    first = workshop / "models/stripes/1"

    status = recalibrate(workshop, "--defects", str(workshop / "defects"), "--masks", str(workshop / "masks"))

    assert status == 0
    newest = max((workshop / "models/stripes").iterdir(), key=lambda p: int(p.name))
    old, new = read_manifest(first), read_manifest(newest)
    assert new.version == int(newest.name) > 1
    assert new.tasks == old.tasks
    assert new.anomaly is not None
    assert len(new.anomaly.scores) == 90  # pooled, as the new images are like the old ones
    assert {"auroc", "aupro", "pixel_auroc", "f1_max"} <= {m.name for m in new.metrics}
    assert all("30 good images of more" in m.data for m in new.metrics)  # no figure of the old version is left
    assert (newest / "roc.png").is_file()
    assert (newest / "scores.png").is_file()
    assert "calibrate stripes --data more" in (newest / "README.md").read_text()


def test_images_that_a_model_has_learnt_from_do_not_calibrate_it(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in (workshop / "models/stripes").iterdir())

    status = recalibrate(workshop, data="good")

    assert status == 1
    assert "the model has learnt from" in capsys.readouterr().err
    assert sorted(p.name for p in (workshop / "models/stripes").iterdir()) == before


def test_a_model_that_is_not_there_cannot_be_calibrated(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["calibrate", "strips", "--data", str(workshop / "good"), "--models", str(workshop / "models")])

    assert status == 1
    assert "no model 'strips'" in capsys.readouterr().err


def test_fit_anomaly_refuses_a_device_that_it_has_no_use_for(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "anomaly", "--data", str(workshop / "good"), "--device", "cuda"]

    assert main([*arguments, "--runs", str(workshop / "runs3"), "--models", str(workshop / "models3")]) == 1

    error = capsys.readouterr().err
    assert "learns on the CPU" in error or "sees no CUDA device" in error
    assert not (workshop / "runs3").exists()


def test_fit_anomaly_restarts_nothing_but_a_run(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = workshop / "runs4" / "stripes" / "only_copy.png"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    arguments = ["fit", "anomaly", "--data", str(workshop / "good"), "--name", "stripes", "--restart", "--quiet"]

    assert main([*arguments, "--runs", str(workshop / "runs4"), "--models", str(workshop / "models4"), *QUICK]) == 1

    assert "is no run" in capsys.readouterr().err
    assert precious.read_bytes() == b"precious"


def test_fit_anomaly_trains_in_one_process(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.stages.rank_and_world", lambda: (0, 2))

    assert main(["fit", "anomaly", "--data", str(workshop / "good"), "--runs", str(workshop / "runs5")]) == 1

    assert "without torchrun" in capsys.readouterr().err
