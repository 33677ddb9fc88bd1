"""From the command line: images in, a published model out, whatever happens in between."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from service.manifest import Manifest
from training.__main__ import main
from training.architectures import ARCHITECTURES
from training.config import Recipe, recipe_names
from training.stages import STAGES
from training.verify import verify

ROOT = Path(__file__).parent.parent.parent
SMALL = [
    "training.epochs=1",
    "training.batch_size=20",
    "training.precision=fp32",
    "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}",
]


def fit(idx_folder: Path, tmp_path: Path, *more: str) -> int:
    places = ["--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    return main(["fit", "digits", "--data", str(idx_folder), *places, "--quiet", "--threads", "1", *SMALL, *more])


def manifest_of(directory: Path) -> Manifest:
    return Manifest.model_validate_json((directory / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def fitted(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/digits` and `models/digits/1` after one fit."""
    folder = tmp_path_factory.mktemp("fitted")
    assert fit(idx_folder, folder) == 0
    return folder


def test_fit_publishes_a_version_with_everything_in_it(fitted: Path) -> None:
    directory = fitted / "models" / "digits" / "1"

    files = {path.name for path in directory.iterdir()}

    graphs = {f"{task}.onnx" for task in ("anomaly", "decode", "denoise", "encode")}
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
        "denoise_psnr_db",
        "reconstruct_mse",
        "false_positive_rate",
    }


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


@pytest.mark.parametrize("stage", ["train", "evaluate", "export", "calibrate", "verify", "publish"])
def test_every_stage_runs_alone_on_a_run(stage: str, fitted: Path, tmp_path: Path) -> None:
    shutil.copytree(fitted / "runs" / "digits", tmp_path / "digits")

    status = main([stage, str(tmp_path / "digits"), "--models", str(tmp_path / "models"), "--quiet"])

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

    status = main(["evaluate", str(tmp_path / "digits")])

    assert status == 1
    assert "python -m training train" in capsys.readouterr().err


def test_a_killed_fit_leaves_no_model_and_the_same_command_finishes_it(idx_folder: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "training", "fit", "digits", "--data", str(idx_folder), "--threads", "1"),
        *("--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"), *SMALL),
    ]
    long = [*command, "training.epochs=100000"]
    process = subprocess.Popen(long, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs" / "digits" / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "models").exists()

    done = subprocess.run([*command, "--restart"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "models" / "digits" / "1").version == 1
    assert re.search(r"train digits: +100%.*img/s.*validation mse 0\.\d+", done.stderr), done.stderr


def test_two_processes_train_the_same_weights_as_one(idx_folder: Path, tmp_path: Path) -> None:
    weights = []
    for processes in (1, 2):
        runs = tmp_path / str(processes)
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *("-m", "training", "fit", "digits", "--data", str(idx_folder), "--quiet", "--threads", "1"),
            *("--device", "cpu", "--runs", str(runs), "--models", str(runs / "models"), *SMALL),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert [p.name for p in (runs / "models" / "digits").iterdir()] == ["1"]
        weights.append(torch.load(runs / "digits" / "weights.pt", weights_only=True))

    one, two = weights
    for name, value in one.items():
        # The halves of a batch are averaged apart: float32 sums in another order, grown over 9 steps of Muon.
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=0, msg=name)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "digitz"], "no recipe 'digitz'; there are digits"),
        (["fit", "digits", "--data", "/no/such"], "--data /no/such: no such folder"),
        (["fit", "digits", "training.epochs=0"], "training.epochs: Input should be greater than 0"),
        (["fit", "digits", "training.epoch=3"], "training.epoch: Extra inputs are not permitted"),
        (["fit", "digits", "epochs"], "'epochs' is not an override; write section.field=value"),
        (["fit", "digits", "name.first=x"], "'name' is a value, not a section"),
        (["fit", "images"], "which images? Give --data FOLDER"),
        (["evaluate", "/no/such/run"], "/no/such/run is no run"),
        (["fit", "digits", "--device", "cuda"], "sees no CUDA device"),
        (["fit", "/no/such.toml"], "cannot read the recipe /no/such.toml"),
    ],
)
def test_a_mistake_on_the_command_line_is_explained_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path)] if arguments[0] == "fit" else []

    status = main([*arguments, *runs])

    assert status == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


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


def test_every_field_of_a_recipe_is_explained_in_the_docs() -> None:
    text = (ROOT / "docs" / "training.md").read_text("utf-8")

    for name, field in Recipe.model_fields.items():
        annotation = field.annotation
        section = annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}
        for key in [f"{name}.{inner}" for inner in section] or [name]:
            assert f"`{key}`" in text, key
