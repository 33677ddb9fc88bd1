"""One contract for every model in models/: a new version gets these tests by being there."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from service.contract.manifest import MANIFEST_FILE, OPTIONAL_OUTPUTS_BY_TASK, TENSORS_BY_TASK, Manifest
from service.contract.range_coder import pack_symbols, to_symbols
from service.contract.version import manifest_of
from training.card import card

MODELS = Path(__file__).parent.parent / "models"
VERSIONS = sorted(path.parent for path in MODELS.glob(f"*/*/{MANIFEST_FILE}"))
each_version = pytest.mark.parametrize("directory", VERSIONS, ids=lambda path: f"{path.parent.name}/{path.name}")

Array = NDArray[np.float32]


def manifest_in(directory: Path) -> Manifest:
    return manifest_of(directory)


def run(path: Path, *inputs: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return [np.asarray(y, np.float32) for y in session.run(None, dict(zip(names, inputs, strict=True)))]


def textbook_noise(x: Array) -> Array:
    noise = np.random.default_rng(0).normal(0.5, 0.4, x.shape).astype(np.float32)
    noisy: Array = np.clip(x + noise, 0, 1)
    return noisy


def test_the_two_digit_models_are_shipped() -> None:
    assert {"digits", "digits-unet"} <= {directory.parent.name for directory in VERSIONS}


@each_version
def test_the_manifest_is_in_its_own_directory(directory: Path) -> None:
    manifest = manifest_in(directory)

    assert (manifest.name, manifest.version) == (directory.parent.name, int(directory.name))


@each_version
def test_the_card_is_written_from_the_manifest(directory: Path) -> None:
    assert (directory / "README.md").read_text("utf-8") == card(manifest_in(directory))


@each_version
def test_every_file_has_the_checksum_in_the_manifest(directory: Path) -> None:
    manifest = manifest_in(directory)

    for file, sha256 in [(g.file, g.sha256) for g in manifest.tasks.values()] + [
        (manifest.golden.file, manifest.golden.sha256)
    ]:
        assert hashlib.sha256((directory / file).read_bytes()).hexdigest() == sha256, file


@each_version
def test_every_graph_is_valid_onnx_with_its_weights_inside_and_no_path_of_the_machine_that_made_it(
    directory: Path,
) -> None:
    for graph in manifest_in(directory).tasks.values():
        content = (directory / graph.file).read_bytes()

        model = onnx.load_from_string(content)

        onnx.checker.check_model(model, full_check=True)
        assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
        assert b"/site-packages/" not in content
        assert b"/home/" not in content


@each_version
def test_every_graph_has_the_tensors_in_the_manifest(directory: Path) -> None:
    for task, graph in manifest_in(directory).tasks.items():
        session = onnxruntime.InferenceSession(directory / graph.file, providers=["CPUExecutionProvider"])

        for specs, found in ((graph.inputs, session.get_inputs()), (graph.outputs, session.get_outputs())):
            assert [(s.name, list(s.shape)) for s in specs] == [(t.name, t.shape) for t in found]
        assert tuple(t.name for t in session.get_outputs()) in {
            TENSORS_BY_TASK[task][1],
            TENSORS_BY_TASK[task][1] + OPTIONAL_OUTPUTS_BY_TASK.get(task, ()),
        }


@each_version
def test_every_graph_gives_its_golden_answer(directory: Path) -> None:
    manifest = manifest_in(directory)
    with np.load(directory / manifest.golden.file, allow_pickle=False) as golden:
        for task, graph in manifest.tasks.items():
            outputs = run(directory / graph.file, *(golden[f"{task}.{t.name}"] for t in graph.inputs))

            for spec, output in zip(graph.outputs, outputs, strict=True):
                expected = golden[f"{task}.{spec.name}"]
                assert np.all(np.abs(output - expected) <= manifest.golden.tolerance * (1 + np.abs(expected)))


@each_version
def test_the_headline_figure_holds_on_the_committed_sample(directory: Path, mnist_digits: Array) -> None:
    manifest = manifest_in(directory)
    if manifest.provenance.data.name != "mnist":
        pytest.skip(f"no committed sample of {manifest.provenance.data.name}")
    headline = next((m for m in manifest.metrics if m.task == "denoise" and m.unit == "mse"), None)
    if headline is None:
        pytest.skip(f"{manifest.name} does not denoise")

    (x_hat,) = run(directory / manifest.tasks["denoise"].file, textbook_noise(mnist_digits))

    mse_by_image = np.square(x_hat - mnist_digits).mean(axis=(1, 2, 3))
    standard_error = mse_by_image.std() / np.sqrt(len(mse_by_image))  # the sample is random among the test images
    assert mse_by_image.mean() == pytest.approx(headline.value, abs=4 * standard_error)
    assert standard_error < 0.05 * headline.value


@each_version
def test_compressed_files_of_the_committed_sample_weigh_and_look_as_the_manifest_says(
    directory: Path, mnist_digits: Array
) -> None:
    manifest = manifest_in(directory)
    if manifest.compression is None or manifest.provenance.data.name != "mnist":
        pytest.skip(f"{manifest.name} does not compress digits")
    compress, decompress = (directory / manifest.tasks[task].file for task in ("compress", "decompress"))
    for index, point in enumerate(manifest.compression.rates):
        rate = np.full(len(mnist_digits), index, np.float32)

        (y,) = run(compress, mnist_digits, rate)
        symbols = to_symbols(y, point.tables)
        (x_hat,) = run(decompress, symbols.astype(np.float32), rate)

        payloads = [pack_symbols(part, point.tables) for part in np.split(symbols, 5)]
        mse_by_image = np.square(x_hat - mnist_digits).mean(axis=(1, 2, 3))
        # The sample is random among the test images: 4 standard errors of 500 of them.
        assert sum(map(len, payloads)) / 500 + 0.5 == pytest.approx(point.bytes_per_image, rel=0.03)
        expected_mse, standard_error = 10 ** (-point.psnr_db / 10), mse_by_image.std() / np.sqrt(500)
        assert mse_by_image.mean() == pytest.approx(expected_mse, abs=4 * standard_error)


@each_version
def test_every_figure_stands_beside_a_baseline(directory: Path) -> None:
    for metric in manifest_in(directory).metrics:
        assert metric.baselines, metric.name


@each_version
def test_denoise_is_decode_of_encode_where_there_is_a_latent(directory: Path, mnist_digits: Array) -> None:
    manifest = manifest_in(directory)
    if manifest.latent is None or not {"encode", "decode", "denoise"} <= manifest.tasks.keys():
        pytest.skip(f"{manifest.name} does not offer all three")
    x = textbook_noise(mnist_digits[:16])

    (z,) = run(directory / manifest.tasks["encode"].file, x)
    (x_hat,) = run(directory / manifest.tasks["decode"].file, z)
    (denoised,) = run(directory / manifest.tasks["denoise"].file, x)

    assert z.shape == (16, manifest.latent.dim)
    np.testing.assert_allclose(x_hat, denoised, atol=1e-5)  # the same operators, possibly fused in another way


@each_version
def test_the_card_and_the_picture_are_there(directory: Path) -> None:
    card = (directory / "README.md").read_text("utf-8")

    assert "preview.png" in card
    assert manifest_in(directory).provenance.data.licence in card
    assert (directory / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_digits_calls_images_without_a_digit_anomalous_also_simple_ones(mnist_digits: Array) -> None:
    directory = next(d for d in reversed(VERSIONS) if d.parent.name == "digits")
    calibration = manifest_in(directory).anomaly
    assert calibration is not None
    rng = np.random.default_rng(0)
    probes = {
        "black": np.zeros((28, 28)),
        "grey": np.full((28, 28), 0.5),
        "white": np.ones((28, 28)),
        "noise": rng.random((28, 28)),
        "one half bright": np.repeat([[0.0], [1.0]], 14, axis=0) * np.ones((1, 28)),
        "shuffled": rng.permutation(mnist_digits[0].ravel()).reshape(28, 28),
        "inverted": 1 - mnist_digits[0, 0],
    }

    scores, _ = run(directory / "anomaly.onnx", np.stack(list(probes.values()))[:, None].astype(np.float32))

    for name, score in zip(probes, scores, strict=True):
        assert score >= calibration.threshold, name
