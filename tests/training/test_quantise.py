"""int8 graphs: the same bytes every time, halves that fit, and a gate for what they lose."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.limits import Limits
from service.manifest import TENSORS_BY_TASK, Graph, Task
from service.model import load_model
from training.__main__ import main
from training.architectures import build
from training.config import load_recipe
from training.export import Int8, export_graphs, run_graph
from training.graphs import graph_for
from training.run import open_run
from training.stages import _int8
from training.verify import verify

OPTIONS = "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}"
TASKS: tuple[Task, ...] = ("anomaly", "decode", "denoise", "encode")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Task, Graph]]:
    folder = tmp_path_factory.mktemp("int8")
    return folder, export(folder)


def export(folder: Path) -> dict[Task, Graph]:
    model = build(load_recipe("digits", (OPTIONS,))).eval()
    x = torch.rand(80, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    networks = {task: graph_for(task, model) for task in TASKS}
    with torch.no_grad():
        z = networks["encode"](x)
    examples = {task: (z if task == "decode" else x)[:16] for task in TASKS}
    described, _ = export_graphs(networks, examples, folder, int8=Int8([networks["encode"], networks["decode"]], x))
    return described


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
        assert b"/tmp" not in path.read_bytes()


def test_denoise_is_decode_of_encode_to_the_bit(exported: tuple[Path, dict[Task, Graph]]) -> None:
    folder, _ = exported
    (z,) = run_graph(folder / "encode.onnx", images())
    (decoded,) = run_graph(folder / "decode.onnx", z)

    assert np.array_equal(run_graph(folder / "denoise.onnx", images())[0], decoded)


def test_the_anomaly_map_is_the_squared_error_of_that_reconstruction(exported: tuple[Path, dict[Task, Graph]]) -> None:
    folder, _ = exported
    (x_hat,) = run_graph(folder / "denoise.onnx", images())
    score, error = run_graph(folder / "anomaly.onnx", images())

    np.testing.assert_allclose(error, ((x_hat - images()) ** 2)[:, 0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(score, error.mean((1, 2)), rtol=1e-5)


def test_int8_comes_close_to_the_network_but_is_not_it(exported: tuple[Path, dict[Task, Graph]]) -> None:
    folder, _ = exported
    with torch.no_grad():
        expected = graph_for("denoise", build(load_recipe("digits", (OPTIONS,))).eval())(torch.from_numpy(images()))
    difference = np.abs(run_graph(folder / "denoise.onnx", images())[0] - expected.numpy())

    assert 0 < difference.max() < 0.05


def fit(idx_folder: Path, folder: Path, *more: str) -> int:
    places = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    small = ["training.epochs=1", "training.batch_size=20", "training.precision=fp32", OPTIONS]
    return main(["fit", "digits", "--data", str(idx_folder), *places, "--quiet", "--threads", "1", *small, *more])


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
    assert {graph.precision for graph in second.tasks.values()} == {"int8"}
    assert first.provenance.cpu_s == second.provenance.cpu_s
    assert first.anomaly != second.anomaly  # calibrated on what is served


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

    model = load_model(twice / "models" / "digits" / "2", provider="CPUExecutionProvider", limits=limits)

    assert set(model.batcher_by_task) == set(TASKS)


def test_a_loss_above_the_limit_is_refused_with_the_figures(
    twice: Path,
    idx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(twice / "runs", tmp_path / "runs")
    losses = iter([0.5, 0.6])  # a network this small loses next to nothing
    monkeypatch.setattr("training.stages.mean_squared_error", lambda *_: next(losses))

    assert fit(idx_folder, tmp_path, "export.precision=int8") == 1

    assert "raises the validation error by 20.0%" in (said := capsys.readouterr().err)
    assert "export.precision=float32" in said
    assert not (tmp_path / "models").exists()


def test_ranges_come_from_training_images_alone(twice: Path) -> None:
    run = open_run(twice / "runs" / "digits")
    data = run.data
    images = _int8(run, build(run.recipe)).images

    clean = {bytes(image.numpy()) for image in (images * 255).round().byte()}
    train = {bytes(image.numpy()) for image in data.train}
    assert clean & train  # some are left clean
    for part in (data.validation, data.calibration, data.test):
        assert not clean & ({bytes(image.numpy()) for image in part} - train)


def test_a_run_from_before_there_was_an_export_section_still_opens(twice: Path) -> None:
    file = twice / "runs" / "digits" / "run.json"
    content = json.loads(file.read_bytes())
    del content["recipe"]["export"]
    file.write_text(json.dumps(content))

    assert open_run(file.parent).recipe.export.precision == "float32"
