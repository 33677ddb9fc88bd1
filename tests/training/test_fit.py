"""From the command line: images in, a published model out, whatever happens in between."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.contract.version import manifest_of
from training.__main__ import main
from training.architectures import ARCHITECTURES
from training.arguments import STAGES
from training.recipe import recipe_names

ROOT = Path(__file__).parent.parent.parent
SMALL = [
    "training.epochs=1",
    "training.batch_size=20",
    "training.precision=fp32",
    "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}",
]

DENOISE_ALONE = ("tasks=['denoise']", "default_for=[]", "export.precision=float32")  # one graph to export


def fit(idx_folder: Path, tmp_path: Path, *more: str) -> int:
    places = ["--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    return main(["fit", "digits", "--data", str(idx_folder), *places, "--quiet", "--threads", "1", *SMALL, *more])


@pytest.fixture(scope="module")
def fitted(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/digits` and `models/digits/1` after one fit."""
    folder = tmp_path_factory.mktemp("fitted")
    assert fit(idx_folder, folder) == 0
    return folder


def test_fit_publishes_a_version_with_everything_in_it(fitted: Path) -> None:
    directory = fitted / "models" / "digits" / "1"

    files = {path.name for path in directory.iterdir()}

    graphs = {f"{task}.onnx" for task in ("anomaly", "decode", "denoise", "encode", "generate")}
    assert files == graphs | {"manifest.json", "golden.npz", "README.md", "preview.png"}


def test_a_published_version_passes_verify_and_a_changed_one_does_not(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "1"
    shutil.copytree(fitted / "models" / "digits" / "1", directory)
    assert main(["verify", str(directory)]) == 0
    graph = bytearray((directory / "encode.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (directory / "encode.onnx").write_bytes(graph)

    status = main(["verify", str(directory)])

    assert status == 1
    assert "encode.onnx: SHA-256 is" in capsys.readouterr().err


def test_the_manifest_tells_how_the_model_was_made(fitted: Path) -> None:
    manifest = manifest_of(fitted / "models" / "digits" / "1")

    split = manifest.provenance.data.split
    assert (split.train, split.validation, split.calibration, split.test) == (180, 10, 10, 40)
    assert manifest.provenance.images_seen == 180
    assert manifest.provenance.command.startswith("python -m training fit digits --threads 1 training.epochs=1")
    assert manifest.anomaly is not None
    assert len(manifest.anomaly.scores) == 10
    assert any("Only 10 images were kept for calibration" in limit for limit in manifest.limits)
    assert {m.name for m in manifest.metrics} == {
        "denoise_mse",
        "knn_accuracy",
        "map",
        "denoise_psnr_db",
        "reconstruct_mse",
        "false_positive_rate",
    }


@pytest.mark.slow
def test_fitting_twice_gives_the_same_graphs(fitted: Path, idx_folder: Path, tmp_path: Path) -> None:
    assert fit(idx_folder, tmp_path) == 0

    first, second = (manifest_of(folder / "models" / "digits" / "1") for folder in (fitted, tmp_path))

    assert {t: g.sha256 for t, g in first.tasks.items()} == {t: g.sha256 for t, g in second.tasks.items()}
    assert first.golden.sha256 == second.golden.sha256
    assert first.metrics == second.metrics


def test_fit_again_skips_what_is_done_and_publishes_the_next_version(fitted: Path, idx_folder: Path) -> None:
    weights = fitted / "runs" / "digits" / "weights.pt"
    before = weights.stat().st_mtime_ns

    assert fit(idx_folder, fitted) == 0

    assert weights.stat().st_mtime_ns == before
    assert manifest_of(fitted / "models" / "digits" / "2").version == 2
    shutil.rmtree(fitted / "models" / "digits" / "2")


@pytest.mark.slow
def test_a_finished_run_that_has_no_detector_yet_learns_one_and_exports_it(
    fitted: Path, idx_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "digits"
    shutil.copytree(fitted / "runs" / "digits", run)
    (run / "detector.pt").unlink()
    (run / "anomaly.onnx").write_bytes(b"from before")

    assert fit(idx_folder, tmp_path) == 0

    published = tmp_path / "models" / "digits" / "1" / "anomaly.onnx"
    assert published.read_bytes() == (fitted / "models" / "digits" / "1" / "anomaly.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "detector", "evaluate", "export", "calibrate", "verify", "publish"])
def test_every_stage_runs_alone_on_a_run(
    stage: str, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")
    monkeypatch.chdir(tmp_path)  # models/ is there

    status = main([stage, "digits"])

    assert status == 0
    assert (tmp_path / "models").exists() == (stage == "publish")


def test_another_recipe_in_the_same_run_is_refused_with_what_differs(
    fitted: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = fit(idx_folder, fitted, "training.seed=7")

    assert status == 1
    error = capsys.readouterr().err
    assert "training.seed was 0, now 7" in error
    assert "--restart" in error


def test_a_stage_without_its_input_says_which_to_run_first(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")
    (tmp_path / "digits" / "weights.pt").unlink()

    status = main(["export", str(tmp_path / "digits")])

    assert status == 1
    assert "python -m training train" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one(fitted: Path, idx_folder: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "training", "fit", "digits", "--data", str(idx_folder), "--quiet", "--threads", "1"),
        *(
            "--device",
            "cpu",
            "--runs",
            str(tmp_path / "runs"),
            "--models",
            str(tmp_path / "models"),
            *SMALL,
            *DENOISE_ALONE,
        ),
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "models" / "digits").iterdir()] == ["1"]
    one, two = (
        torch.load(folder / "runs" / "digits" / "weights.pt", weights_only=True) for folder in (fitted, tmp_path)
    )
    for name, value in one.items():
        # The halves of a batch are averaged apart: float32 sums in another order, grown over 9 steps of Muon.
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=0, msg=name)


@pytest.mark.slow
def test_fit_on_a_folder_of_pictures_lists_what_it_skipped(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    (image_folder / "twin.bmp").write_bytes((image_folder / "set1" / "4.bmp").read_bytes())
    small = ["training.epochs=1", "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}"]
    places = ["--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"), "--quiet"]

    status = main(
        [
            "fit",
            "images",
            "--data",
            str(image_folder),
            "--name",
            "mine",
            *places,
            *small,
            "data.height=16",
            "data.width=16",
        ]
    )

    assert status == 0
    output = capsys.readouterr().out
    assert "broken.png: cannot be read" in output
    assert "the same pixels as" in output
    manifest = manifest_of(tmp_path / "models" / "mine" / "1")
    assert manifest.provenance.data.images == 12
    assert manifest.input.channels == 3
    assert manifest.provenance.command == (
        "python -m training fit images --data photos --name mine training.epochs=1 "
        "'architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}' data.height=16 data.width=16"
    )


def test_help_lists_every_stage_recipe_and_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])

    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for word in [*STAGES, *recipe_names(), *ARCHITECTURES]:
        assert re.search(rf"^  {re.escape(word)} ", text, re.MULTILINE), word


def test_a_models_directory_that_cannot_be_written_is_named_and_the_run_is_kept(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")
    (tmp_path / "models").write_text("a file where the directory should be")

    status = main(["publish", str(tmp_path / "digits"), "--models", str(tmp_path / "models")])

    assert status == 1
    error = capsys.readouterr().err
    assert "cannot publish to" in error
    assert "python -m training publish" in error


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "evaluate", "export"])
def test_a_full_disk_is_said_in_one_line_and_the_run_goes_on_afterwards(
    stage: str, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        status = main([stage, str(tmp_path / "digits"), "--quiet"])

    assert status == 1
    assert "error: No space left on device; the same command goes on" in capsys.readouterr().err
    assert list((tmp_path / "digits").glob(".*.tmp")) == []
    assert main([stage, str(tmp_path / "digits"), "--quiet"]) == 0


def test_a_failed_publish_leaves_neither_a_version_nor_rubbish(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")

    def no_room(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", no_room)
    status = main(["publish", str(tmp_path / "digits"), "--models", str(tmp_path / "models")])

    assert status == 1
    assert list((tmp_path / "models" / "digits").iterdir()) == []


def test_the_report_has_a_loss_per_epoch(fitted: Path) -> None:
    report = json.loads((fitted / "runs" / "digits" / "report.json").read_bytes())

    assert [h["epoch"] for h in report["history"]] == [1]
    assert np.isfinite(report["history"][0]["validation_loss"])


@pytest.mark.slow
def test_beside_puts_another_run_among_the_baselines_of_a_finished_one(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("digits", "other"):
        assert fit(idx_folder, tmp_path, "--name", name, *DENOISE_ALONE) == 0
    beside = [*DENOISE_ALONE, "--beside", str(tmp_path / "runs" / "other")]

    assert fit(idx_folder, tmp_path, *beside) == 0

    (mse,) = (m for m in manifest_of(tmp_path / "models" / "digits" / "2").metrics if m.name == "denoise_mse")
    assert mse.baselines["recipe other"] == mse.value  # the same recipe and seed
    assert fit(idx_folder, tmp_path, "--name", "mild", "corruption.options={sigma=0.1}", *beside) == 1
    assert "has another corruption, so its figures cannot be compared with those of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plain_autoencoder_has_no_decibels_for_an_input_without_noise(idx_folder: Path, tmp_path: Path) -> None:
    assert fit(idx_folder, tmp_path, *DENOISE_ALONE, "corruption.name=none", "corruption.options={}") == 0

    metrics = {m.name: m for m in manifest_of(tmp_path / "models" / "digits" / "1").metrics}

    assert metrics["denoise_mse"].baselines["noisy input"] == 0
    assert "noisy input" not in metrics["denoise_psnr_db"].baselines


@pytest.mark.slow
def test_restart_begins_anew_but_leaves_a_folder_alone_that_is_no_run(
    fitted: Path, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted / "runs", tmp_path / "runs")
    photos = tmp_path / "photos"
    (photos / "digits").mkdir(parents=True)
    (photos / "digits" / "only_copy.png").write_bytes(b"precious")

    assert fit(idx_folder, tmp_path, "--restart", "training.seed=7", *DENOISE_ALONE) == 0
    assert fit(idx_folder, tmp_path, "--restart", "--runs", str(photos)) == 1

    assert "photos/digits is no run" in capsys.readouterr().err
    assert (photos / "digits" / "only_copy.png").read_bytes() == b"precious"
    assert manifest_of(tmp_path / "models" / "digits" / "1").provenance.seed == 7


def test_exported_graphs_hold_nothing_of_the_machine_that_made_them(fitted: Path) -> None:
    for path in (fitted / "models" / "digits" / "1").iterdir():
        content = path.read_bytes()
        assert b"site-packages" not in content, path.name
        assert str(ROOT).encode() not in content, path.name
        assert str(fitted).encode() not in content, path.name
