"""The public functions of `training`, as a program would use them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import training
from service.images.codec import decode_image
from training import Places, Sources, fit, load_recipe, open_model
from training.errors import DataError, RunError, VerifyError

ROOT = Path(__file__).parent.parent.parent
DIGIT = ROOT / "tests" / "data" / "digit.png"
TINY = (
    "training.epochs=1", "training.batch_size=4", "data.height=8", "data.width=8", "tasks=['denoise']",
    "default_for=[]", "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}",
)  # fmt: skip


def test_everything_that_is_offered_is_there_and_nothing_else() -> None:
    assert all(callable(getattr(training, name)) for name in training.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = training.nothing


def test_importing_it_needs_no_pytorch() -> None:
    code = "import sys, training; assert 'torch' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_model_is_fitted_and_opened_in_three_lines(image_folder: Path, tmp_path: Path) -> None:
    places = Places(runs=tmp_path / "runs", models=tmp_path / "models", device="cpu", progress=False)

    directory = fit(load_recipe("images", TINY), Sources(data=image_folder), places, name="mine")
    model = open_model(tmp_path / "models" / "mine")
    x_hat = model.run("denoise", model.read(image_folder / "set0" / "0.png"))["x_hat"]

    assert model.directory == directory == tmp_path / "models" / "mine" / "1"
    assert x_hat.shape == (1, 3, 8, 8)


def test_a_published_model_answers_as_its_golden_sample_says() -> None:
    model = open_model(ROOT / "models" / "digits")
    with np.load(model.directory / model.manifest.golden.file) as golden:
        for task, graph in model.manifest.tasks.items():
            inputs = [golden[f"{task}.{tensor.name}"] for tensor in graph.inputs]

            answers = model.run(task, *inputs)

            for name, answer in answers.items():
                expected, tolerance = golden[f"{task}.{name}"], model.manifest.golden.tolerance
                np.testing.assert_allclose(answer, expected, atol=tolerance, rtol=tolerance)


def test_a_file_is_read_as_the_service_reads_it() -> None:
    model = open_model(ROOT / "models" / "digits")

    x = model.read(DIGIT)

    image = decode_image(DIGIT.read_bytes(), max_pixels=1000, max_frames=1)
    assert np.array_equal(x, image.pixels(1))


def test_what_a_model_cannot_do_is_said(tmp_path: Path) -> None:
    model = open_model(ROOT / "models" / "digits-unet")

    with pytest.raises(RunError, match="model digits-unet cannot encode; it offers denoise"):
        model.run("encode", model.read(DIGIT))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="not a PNG"):
        model.read(tmp_path / "text.png")
    with pytest.raises(VerifyError, match=r"holds no manifest\.json"):
        open_model(tmp_path)
