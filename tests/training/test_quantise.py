"""int8 graphs: the same bytes every time, halves that fit, and a gate for what they lose."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from service.contract.manifest import TENSORS_BY_TASK, Graph, Task
from service.limits import Limits
from service.models.loading import load_model
from service.models.onnx_guard import check_onnx
from service.models.provider import CPU
from training.__main__ import main
from training.architectures import build
from training.config import Recipe
from training.errors import ExportError
from training.evaluate import evaluate
from training.export import Int8, export_graphs, to_onnx
from training.exported import run_graph, served
from training.graphs import graph_for
from training.problems.one_size_model import _check_loss, _int8
from training.quantise import quantise
from training.recipe import load_recipe
from training.stages import open_run
from training.verify import verify

pytestmark = pytest.mark.slow  # whole trainings

OPTIONS = "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}"
# Learns something of 180 squares in a second, so that there is something to lose.
LEARNS = (
    *("architecture.name=linear", "architecture.options={latent_dim=8}", "augmentation.share=0"),
    *("training.optimiser=adam", "training.learning_rate=1e-2", "training.ema_decay=0.9", "training.precision=fp32"),
    *("training.epochs=20", "training.batch_size=20"),
)
TASKS: tuple[Task, ...] = ("decode", "denoise", "encode")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Task, Graph]]:
    folder = tmp_path_factory.mktemp("int8")
    return folder, export(folder)


class Blur(nn.Module):
    """x (N,1,8,8) -> x_hat of the same shape, by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


class Offset(nn.Module):
    """x -> x + offset."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


def export(folder: Path) -> dict[Task, Graph]:
    model = build(load_recipe("digits", (OPTIONS,), of=Recipe)).eval()
    x = torch.rand(80, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    networks = {task: graph_for(task, model) for task in TASKS}
    with torch.no_grad():
        z = networks["encode"](x)
    examples = {task: (z if task == "decode" else x)[:16] for task in TASKS}
    int8 = Int8([networks["encode"], networks["decode"]], x, check=lambda int8: None)
    return export_graphs(networks, examples, folder, int8=int8)[0]


def images(count: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((count, 1, 28, 28), np.float32)


def test_the_graphs_say_that_they_are_int8_and_keep_the_contract(exported: tuple[Path, dict[Task, Graph]]) -> None:
    _, graphs = exported

    assert {graph.precision for graph in graphs.values()} == {"int8"}
    for task, graph in graphs.items():
        assert (tuple(t.name for t in graph.inputs), tuple(t.name for t in graph.outputs)) == TENSORS_BY_TASK[task]
        assert all(not isinstance(t.shape[0], int) for t in (*graph.inputs, *graph.outputs))


def test_the_same_network_gives_the_same_bytes(exported: tuple[Path, dict[Task, Graph]], tmp_path: Path) -> None:
    assert {t: g.sha256 for t, g in export(tmp_path).items()} == {t: g.sha256 for t, g in exported[1].items()}


def test_nothing_of_this_machine_is_inside(exported: tuple[Path, dict[Task, Graph]]) -> None:
    for path in exported[0].glob("*.onnx"):
        assert tempfile.gettempdir().encode() not in path.read_bytes()


def test_quantising_is_quiet_and_leaves_no_file_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graph = to_onnx(Blur().eval(), (torch.rand(2, 1, 8, 8),), ("x",), ("x_hat",))
    capfd.readouterr()
    caplog.clear()

    quantise(graph, np.random.default_rng(0).random((70, 1, 8, 8), np.float32))

    assert list(tmp_path.iterdir()) == []
    assert (tuple(capfd.readouterr()), caplog.messages) == (("", ""), [])


def test_weights_are_int8_of_which_seven_bits_are_used(exported: tuple[Path, dict[Task, Graph]]) -> None:
    model = onnx.load(exported[0] / "encode.onnx")

    kinds = {t.data_type for t in model.graph.initializer}
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = max(int(np.abs(w.astype(int)).max()) for w in weights if w.ndim > 1)
    assert onnx.TensorProto.INT8 in kinds
    assert 60 <= largest <= 64  # all eight bits would reach 127


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_without_a_latent_is_quantised_in_one_piece(channels: int, tmp_path: Path) -> None:
    recipe = load_recipe("digits-unet", ("architecture.options={}", f"data.channels={channels}"), of=Recipe)
    denoise = graph_for("denoise", build(recipe))
    x = torch.rand(32, channels, 28, 28, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    int8 = Int8([denoise], x, check=lambda served_int8: seen.append(served_int8(x[:5])))

    described, _ = export_graphs({"denoise": denoise}, {"denoise": x[:16]}, tmp_path, int8=int8)

    content = (tmp_path / "denoise.onnx").read_bytes()
    check_onnx(content)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert described["denoise"].precision == "int8"
    assert torch.equal(seen[0], served(tmp_path / "denoise.onnx")(x[:5]))  # what is checked is what is written
    with torch.no_grad():
        assert (seen[0] - denoise(x[:5])).abs().max() < 0.05  # a few steps of 1/255


def test_denoise_is_decode_of_encode_to_the_bit(exported: tuple[Path, dict[Task, Graph]]) -> None:
    folder, _ = exported
    (z,) = run_graph(folder / "encode.onnx", images())
    (decoded,) = run_graph(folder / "decode.onnx", z)

    assert np.array_equal(run_graph(folder / "denoise.onnx", images())[0], decoded)


def test_int8_comes_close_to_the_network_but_is_not_it(exported: tuple[Path, dict[Task, Graph]]) -> None:
    folder, _ = exported
    with torch.no_grad():
        expected = graph_for("denoise", build(load_recipe("digits", (OPTIONS,), of=Recipe)).eval())(
            torch.from_numpy(images())
        )
    difference = np.abs(run_graph(folder / "denoise.onnx", images())[0] - expected.numpy())

    assert 0 < difference.max() < 0.05


def fit(idx_folder: Path, folder: Path, *more: str) -> int:
    places = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    return main(["fit", "digits", "--data", str(idx_folder), *places, "--quiet", "--threads", "1", *LEARNS, *more])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def twice(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fitted in float32, then again in int8 from the same run."""
    folder = tmp_path_factory.mktemp("twice")
    assert fit(idx_folder, folder, "export.precision=float32") == 0
    weights = digest(folder / "runs" / "digits" / "weights.pt")
    assert fit(idx_folder, folder, "export.precision=int8", "export.max_loss_rise=1") == 0
    assert digest(folder / "runs" / "digits" / "weights.pt") == weights
    return folder


def test_another_precision_is_another_version_of_the_same_weights(twice: Path) -> None:
    first, second = (verify(twice / "models" / "digits" / str(version)) for version in (1, 2))

    assert {graph.precision for graph in first.tasks.values()} == {"float32"}
    assert {task for task, graph in second.tasks.items() if graph.precision == "int8"} == {*TASKS, "generate"}
    assert first.provenance.cpu_s == second.provenance.cpu_s
    assert first.anomaly == second.anomaly  # the detector is no part of the autoencoder and stays float32


def test_what_int8_loses_stands_beside_every_figure(twice: Path) -> None:
    first, second = (verify(twice / "models" / "digits" / str(version)) for version in (1, 2))
    value = {metric.name: metric.value for metric in first.metrics}

    for metric in second.metrics:
        if metric.name in {"denoise_mse", "reconstruct_mse"}:
            assert metric.baselines["same network in float32"] == pytest.approx(value[metric.name], rel=1e-4)
            assert metric.value != metric.baselines["same network in float32"]
    assert "int8" in (twice / "models" / "digits" / "2" / "README.md").read_text()


def test_the_service_takes_an_int8_version(twice: Path) -> None:
    limits = Limits(threads=1, max_batch=64, max_pixels=10**6)

    model = load_model(twice / "models" / "digits" / "2", provider=CPU, limits=limits)

    assert set(model.batcher_by_task) == {*TASKS, "anomaly", "generate"}


def test_the_loss_that_decides_is_that_of_the_recipe(twice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = (OPTIONS, "training.loss=l1", "corruption.name=none", "corruption.options={}")
    run = replace(open_run(twice / "runs" / "digits"), recipe=load_recipe("digits", overrides, of=Recipe))

    with pytest.raises(ExportError, match=r"raises the validation loss \(l1\) by 100\.0%"):
        _check_loss(run, Offset(0.1), Offset(0.2))  # mse would be four times as much

    assert "int8: validation l1 0.20000, +100.0% of float32's 0.10000" in capsys.readouterr().out


def test_fit_refuses_int8_that_lost_too_much_and_goes_on_in_float32(
    twice: Path, idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(twice / "runs", tmp_path / "runs")
    weights = tmp_path / "runs" / "digits" / "weights.pt"
    before = weights.stat().st_mtime_ns

    with monkeypatch.context() as patch:
        patch.setattr("training.export.quantise", lambda graph, x: quantise(graph, x * 1e-3))  # ranges far too small
        status = fit(idx_folder, tmp_path, "export.precision=int8", "export.max_loss_rise=0.01")

    said = capsys.readouterr().err
    assert status == 1
    assert "raises the validation loss (mse) by" in said
    assert "export.precision=float32" in said
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "runs" / "digits" / "model").exists()  # nothing left that `publish` alone could publish
    assert fit(idx_folder, tmp_path, "export.precision=float32") == 0
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("tasks", "metrics"),
    [("decode,encode", {"reconstruct_mse", "knn_accuracy", "map"}), ("encode", {"knn_accuracy", "map"})],
)
def test_figures_of_an_int8_model_are_of_what_it_offers(
    tasks: str, metrics: set[str], twice: Path, tmp_path: Path
) -> None:
    shutil.copytree(twice / "runs" / "digits", tmp_path / "run")
    run = open_run(tmp_path / "run")
    offers = run.recipe.model_copy(update={"tasks": tuple(tasks.split(","))})

    evaluate(replace(run, recipe=offers), progress=False)

    assert {m["name"] for m in run.read("evaluation.json", "evaluate")["metrics"]} == metrics


def test_ranges_come_from_training_images_alone(twice: Path) -> None:
    run = open_run(twice / "runs" / "digits")
    data = run.data
    images = _int8(run, build(run.recipe)).images

    clean = {bytes(image.numpy()) for image in (images * 255).round().byte()}
    train = {bytes(image.numpy()) for image in data.train}
    assert clean & train  # some are left clean
    for part in (data.validation, data.calibration, data.test):
        assert not clean & ({bytes(image.numpy()) for image in part} - train)


def test_a_run_from_before_there_was_an_export_section_goes_on(twice: Path, idx_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(twice / "runs", tmp_path / "runs")
    weights = tmp_path / "runs" / "digits" / "weights.pt"
    before = weights.stat().st_mtime_ns
    file = tmp_path / "runs" / "digits" / "run.json"
    content = json.loads(file.read_bytes())
    del content["recipe"]["export"]
    file.write_text(json.dumps(content))

    assert open_run(file.parent).recipe.export.precision == "float32"
    assert fit(idx_folder, tmp_path, "export.precision=int8", "export.max_loss_rise=1") == 0
    assert weights.stat().st_mtime_ns == before
