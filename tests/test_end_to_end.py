"""The whole way: train on PNG files, export, publish, serve, post the same files."""

import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.contract.version import manifest_of
from service.settings import Settings
from training.__main__ import main

RECIPE = """
name = "squares"
summary = "bright squares on black"
tasks = ["denoise", "encode", "decode", "anomaly"]
default_for = ["denoise", "encode", "decode", "anomaly"]
target_fpr = 0.1

[architecture]
name = "conv"
options = { latent_dim = 4, widths = [4, 8], blocks = [0, 1], hidden = 16 }

[data]
channels = 1
height = 16
width = 16
calibration_share = 0.25

[training]
epochs = 1
batch_size = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images/`, and `models/squares/1` trained on them for one epoch."""
    folder = tmp_path_factory.mktemp("end-to-end")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(80):
        pixels = rng.integers(0, 40, (16, 16), np.uint8)
        top, left = rng.integers(0, 10, 2)
        pixels[top : top + 6, left : left + 6] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    (folder / "squares.toml").write_text(RECIPE)
    places = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    assert main(["fit", str(folder / "squares.toml"), "--data", str(folder / "images"), *places, "--quiet"]) == 0
    return folder


def graph_answer(folder: Path, task: str, x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        folder / "models" / "squares" / "1" / f"{task}.onnx", providers=["CPUExecutionProvider"]
    )
    return [np.asarray(y) for y in session.run(None, {session.get_inputs()[0].name: x})]


def test_the_service_answers_with_what_training_would_compute_from_the_same_file(folder: Path) -> None:
    png = (folder / "images" / "0.png").read_bytes()
    x = np.asarray(Image.open(io.BytesIO(png)), np.float32)[None, None] / np.float32(255)
    headers = {"Content-Type": "image/png"}

    with TestClient(create_app(Settings(models_dir=folder / "models"))) as client:
        denoised = client.post("/denoise", content=png, headers=headers)
        encoded = client.post("/encode", content=png, headers=headers)
        latent = encoded.json()["latent"]
        decoded = client.post("/decode", json={"latent": latent}, headers={"Accept": "application/x-npy"})
        judged = client.post("/anomaly", content=png, headers=headers)

    assert [r.status_code for r in (denoised, encoded, decoded, judged)] == [200] * 4
    assert denoised.headers["X-Model"] == "squares/1"
    (x_hat,) = graph_answer(folder, "denoise", x)
    shown = np.asarray(Image.open(io.BytesIO(denoised.content)))
    assert np.array_equal(shown, np.rint(x_hat[0, 0] * np.float32(255)).astype(np.uint8))
    (z,) = graph_answer(folder, "encode", x)
    np.testing.assert_array_equal(np.asarray(latent, np.float32), z[0])
    np.testing.assert_allclose(np.squeeze(np.load(io.BytesIO(decoded.content))), x_hat[0, 0], atol=1e-5)
    score, _ = graph_answer(folder, "anomaly", x)
    assert np.float32(judged.json()["score"]) == score[0]


def test_the_served_verdict_follows_from_the_calibration_in_the_manifest(folder: Path) -> None:
    manifest = manifest_of(folder / "models" / "squares" / "1")
    calibration = manifest.anomaly
    assert calibration is not None
    inverted = 255 - np.asarray(Image.open(folder / "images" / "0.png"))
    body = io.BytesIO()
    Image.fromarray(inverted).save(body, "PNG")

    with TestClient(create_app(Settings(models_dir=folder / "models"))) as client:
        answer = client.post("/anomaly", content=body.getvalue(), headers={"Content-Type": "image/png"}).json()

    at_or_above = sum(score >= answer["score"] for score in calibration.scores)
    assert answer["p_value"] == pytest.approx((1 + at_or_above) / (len(calibration.scores) + 1))
    assert answer["is_anomalous"] == (answer["score"] >= answer["threshold"])
    assert answer["threshold"] == calibration.threshold


@pytest.mark.slow
def test_the_shipped_models_clean_a_photograph_better_than_it_came() -> None:
    models = Path(__file__).parent.parent / "models"
    photo = np.asarray(Image.open(Path(__file__).parent / "data" / "hazelnut.jpg"))
    rng = np.random.default_rng(5)
    with TestClient(create_app(Settings(models_dir=models))) as client:
        for values, model in ((photo, "photo"), (photo[..., 1], "photo-grey")):
            noisy = np.clip(values + rng.normal(0, 25, values.shape), 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "PNG")

            response = client.post("/denoise", content=file.getvalue())

            assert response.headers["X-Model"].partition("/")[0] == model
            assert float(response.headers["X-Sigma"]) == pytest.approx(25, rel=0.15)
            clean = np.asarray(Image.open(io.BytesIO(response.content)))
            before, after = (np.square(a.astype(float) - values).mean() for a in (noisy, clean))
            assert 10 * np.log10(before / after) > 8  # dB


def test_the_shipped_model_enlarges_better_than_a_filter() -> None:
    models = Path(__file__).parent.parent / "models"
    large = Image.open(Path(__file__).parent / "data" / "hazelnut.jpg").convert("L")
    small = large.resize((96, 96), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "PNG")
    with TestClient(create_app(Settings(models_dir=models))) as client:
        response = client.post("/enhance", content=file.getvalue())

    assert response.headers["X-Model"].partition("/")[0] == "photo-x2"
    ours = np.asarray(Image.open(io.BytesIO(response.content)))
    bicubic = small.resize((192, 192), Image.Resampling.BICUBIC)
    errors = [np.square(np.asarray(a, float) - np.asarray(large, float))[4:-4, 4:-4].mean() for a in (ours, bicubic)]
    assert errors[0] < errors[1]
