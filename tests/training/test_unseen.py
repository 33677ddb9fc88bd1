"""What is published was measured, calibrated and counted on the images that each is for: worked out again from outside.

Figures come from images that training never saw, thresholds from those kept for them, tables of symbols from training
images. Every answer here is that of the published graphs, computed anew without the code that made the manifest.
"""

import gzip
import hashlib
import math
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from service.contract.manifest import Manifest
from service.contract.version import manifest_of
from tests.training.conftest import write_idx
from training.__main__ import main
from training.anomaly.learn import DetectorConfig, learn_detector

Floats = NDArray[np.float32]


def fit(home: Path, recipe: str, *more: str) -> int:
    places = ("--runs", str(home / "runs"), "--models", str(home / "models"), "--name", "mine")
    return main(["fit", recipe, *places, "--device", "cpu", "--quiet", "--threads", "1", *more])


def made_in(home: Path) -> Manifest:
    return manifest_of(home / "models/mine/1")


def run(home: Path, task: str, **inputs: Floats) -> list[Floats]:
    session = onnxruntime.InferenceSession(home / f"models/mine/1/{task}.onnx", providers=["CPUExecutionProvider"])
    answers: list[Floats] = session.run(None, inputs)
    return answers


def read_idx(folder: Path, part: str) -> Floats:
    """Images (N, 1, 28, 28) of a file like MNIST's, pixels in [0, 1]."""
    content = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return (np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28) / np.float32(255)).astype(np.float32)


def value_by_name(home: Path) -> dict[str, float]:
    return {metric.name: metric.value for metric in made_in(home).metrics}


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files like MNIST's whose test images are not like the training images: squares of 16 pixels, not of 8."""
    folder, rng = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    for part, count, side in (("train", 200, 8), ("t10k", 40, 16)):
        images = np.zeros((count, 28, 28), np.uint8)
        for image, (top, left) in zip(images, rng.integers(0, 28 - side, (count, 2)), strict=True):
            image[top : top + side, left : left + side] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.zeros(count, np.uint8))
    return folder


@pytest.fixture(scope="module")
def digits(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without any noise, so that what goes into its figures is known; parts of different sizes."""
    home = tmp_path_factory.mktemp("digits")
    status = fit(
        home, "digits", "--data", str(idx_folder), "training.epochs=1", "training.batch_size=20",
        "corruption.name=none", "corruption.options={}", "training.precision=fp32", "data.validation_share=0.1",
        "data.calibration_share=0.2",
        "tasks=['denoise', 'encode', 'decode', 'anomaly']", "default_for=[]",
        "architecture.options={latent_dim=4, widths=[4, 8], blocks=[0, 1], hidden=16}",
    )  # fmt: skip
    assert status == 0
    return home


@pytest.mark.slow
def test_figures_of_digits_are_those_of_the_test_images(digits: Path, idx_folder: Path) -> None:
    x = read_idx(idx_folder, "t10k")

    (denoised,) = run(digits, "denoise", x=x)
    (z,) = run(digits, "encode", x=x)
    (x_hat,) = run(digits, "decode", z=z)

    found = value_by_name(digits)
    # Sums of 31,360 float32 squares in another order.
    assert found["denoise_mse"] == pytest.approx(float(np.square(denoised - x).mean()), rel=1e-4)
    assert found["reconstruct_mse"] == pytest.approx(float(np.square(x_hat - x).mean()), rel=1e-4)


@pytest.mark.slow
def test_the_share_of_false_alarms_is_that_of_the_test_images(digits: Path, idx_folder: Path) -> None:
    scores, _ = run(digits, "anomaly", x=read_idx(idx_folder, "t10k"))
    calibration = made_in(digits).anomaly
    assert calibration is not None

    assert value_by_name(digits)["false_positive_rate"] == pytest.approx(
        float((scores >= calibration.threshold).mean())
    )


def test_the_threshold_comes_from_the_images_kept_for_calibration_alone(digits: Path, idx_folder: Path) -> None:
    manifest = made_in(digits)
    assert manifest.anomaly is not None
    split = manifest.provenance.data.split
    assert (split.validation, split.calibration) == (20, 40)

    scores = {round(float(s), 4) for s in run(digits, "anomaly", x=read_idx(idx_folder, "train"))[0]}
    test_scores = {round(float(s), 4) for s in run(digits, "anomaly", x=read_idx(idx_folder, "t10k"))[0]}
    kept = {round(s, 4) for s in manifest.anomaly.scores}

    assert len(manifest.anomaly.scores) == split.calibration
    assert kept <= scores
    assert not kept <= test_scores


def image_scores(home: Path, good: Path) -> dict[str, float]:
    """Score by the digest of every image of a folder of parts, as `learnt_from.txt` has it."""
    found = {}
    for path in sorted(good.iterdir()):
        pixels = np.asarray(Image.open(path), np.uint8)[None]
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        found[digest] = float(run(home, "anomaly", x=(pixels[None] / np.float32(255)).astype(np.float32))[0][0])
    return found


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of soft stripes, learnt from `good`."""
    home, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    (home / "good").mkdir()
    for i in range(60):
        x = 128 + 70 * np.sin(np.arange(32) / 2 + rng.uniform(0, 6.3)) + rng.normal(0, 5, (28, 32))
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(home / f"good/{i:03}.png")
    quick = ("detector.bank=1000",)
    assert fit(home, "anomaly", "--data", str(home / "good"), *quick) == 0
    return home


@pytest.mark.slow
def test_a_detector_is_calibrated_on_images_that_it_has_not_learnt_from(stripes: Path) -> None:
    manifest = made_in(stripes)
    assert manifest.anomaly is not None
    learnt = set((stripes / "runs/mine/model/learnt_from.txt").read_text().split())

    score_by_digest = image_scores(stripes, stripes / "good")

    assert learnt == set(score_by_digest)  # every image taught the graph
    assert len(manifest.anomaly.scores) == len(learnt)
    assert np.mean(manifest.anomaly.scores) > np.mean(list(score_by_digest.values())) + 0.1  # none of their scores did


def test_scores_of_a_detector_are_standardised_on_images_kept_from_what_it_was_fitted_to() -> None:
    """Images that it has learnt from score lower than new ones; those that it says of itself do not."""
    rng = np.random.default_rng(1)
    phases = rng.uniform(0, 6.3, (80, 1, 1, 1))
    x = 128 + 70 * np.sin(np.arange(32) / 2 + phases) + rng.normal(0, 5, (80, 1, 28, 32))
    images = torch.from_numpy(x.clip(0, 255).astype(np.uint8))
    train, new = images[:60], images[60:]

    learnt = learn_detector(train, [str(i) for i in range(60)], DetectorConfig(bank=1000), seed=0, progress=False)

    with torch.no_grad():
        of_train, of_new = (float(learnt.detector(part.float() / 255)[0].mean()) for part in (train, new))
    assert of_train < of_new - 0.1
    assert of_new < float(learnt.scores.mean()) + 0.6  # 0.6: two standard errors of 20 images


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was fitted to dark pictures and their bright ones; the last two were kept back by their names."""
    home, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for folder in ("dark", "bright"):
        (home / folder).mkdir()
    for i in range(6):
        y, x = np.mgrid[:40, : 44 + 4 * i]
        bright = (127 + 100 * np.sin(x / (3 + i) + y / (5 + i)) + rng.normal(0, 4, x.shape)).clip(0, 255)
        Image.fromarray(bright.astype(np.uint8)).save(home / f"bright/{i}.png")
        Image.fromarray((bright * (0.3 + 0.1 * i)).astype(np.uint8)).save(home / f"dark/{i}.png")
    assert fit_pairs(home) == 0
    return home


def fit_pairs(home: Path) -> int:
    quick = ("training.steps=4", "training.batch_size=4", "training.patch=16", "training.validate_every=4")
    tiny = ("network.widths=[8, 8]", "network.blocks=[1, 1]", "data.channels=1", r"data.validation=[45]\.png")
    return fit(home, "restore", "--noisy", str(home / "dark"), "--clean", str(home / "bright"), *quick, *tiny)


@pytest.mark.slow
def test_figures_of_pictures_are_those_of_the_pictures_kept_back(pairs: Path) -> None:
    answers: dict[str, list[float]] = {"graph": [], "unprocessed": []}

    for i in (4, 5):
        dark, bright = (
            (np.asarray(Image.open(pairs / f"{folder}/{i}.png"))[None, None] / np.float32(255)).astype(np.float32)
            for folder in ("dark", "bright")
        )  # sides are multiples of 4, which the network takes as they are
        for name, x_hat in (("graph", run(pairs, "denoise", x=dark)[0]), ("unprocessed", dark)):
            mse = float(np.square(x_hat.clip(0, 1) - bright).mean())
            answers[name].append(-10 * math.log10(mse))

    metric = next(m for m in made_in(pairs).metrics if m.name == "denoise_psnr_db")
    assert metric.value == pytest.approx(float(np.mean(answers["graph"])), abs=1e-3)  # dB
    assert metric.baselines["unprocessed"] == pytest.approx(float(np.mean(answers["unprocessed"])), abs=1e-3)


def code_length(symbols: NDArray[np.int64], probability: dict[int, float]) -> float:
    """Bits per symbol; what a table does not have costs 16."""
    return float(np.mean([-math.log2(probability.get(int(s), 2.0**-16)) for s in symbols]))


def test_tables_of_symbols_are_counted_on_training_images(idx_folder: Path, tmp_path: Path) -> None:
    status = fit(
        tmp_path, "digits-compressed", "--data", str(idx_folder), "training.epochs=1", "training.batch_size=40",
        "training.precision=fp32", "images_per_file=20", "lambdas=[0.05]", "default_rate=0",
        "data.validation_share=0.05", "data.calibration_share=0.05",
        "architecture.options={latent_dim=6, widths=[4, 8], blocks=[0, 1], neck=4, hidden=16}",
    )  # fmt: skip
    assert status == 0
    compression = made_in(tmp_path).compression
    assert compression is not None
    train, test = (
        np.rint(run(tmp_path, "compress", x=x, rate=np.zeros(len(x), np.float32))[0]).astype(np.int64)
        for x in (read_idx(idx_folder, part) for part in ("train", "t10k"))
    )

    found, of_test = 0.0, 0.0
    for i, table in enumerate(compression.rates[0].tables):
        published = {table.first + k: count / sum(table.counts) for k, count in enumerate(table.counts)}
        counted = {s: count / len(test) for s, count in Counter(test[:, i].tolist()).items()}
        found += code_length(train[:, i], published)
        of_test += code_length(train[:, i], counted)
        assert published.keys() >= set(train[:, i].tolist()) - {int(train[:, i].min()), int(train[:, i].max())}

    # 180 of those 200 images were counted, so no other table of static counts is shorter by more than their chance.
    entropy = sum(
        code_length(column, {s: count / len(column) for s, count in Counter(column.tolist()).items()})
        for column in train.T
    )
    assert found < entropy + 0.05 * entropy
    assert of_test > found


@pytest.fixture(scope="module")
def photo_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fitted to smooth photographs; those kept back by their names are noise."""
    home, rng = tmp_path_factory.mktemp("codec"), np.random.default_rng(0)
    (home / "photos").mkdir()
    for i in range(4):
        y, x = np.mgrid[:67, :83]
        smooth = np.stack([127 + 60 * np.sin(x / (20 + c) + y / (25 + i)) for c in range(3)], 2)
        noise = rng.uniform(0, 255, (67, 83, 3))
        picture = noise if i == 3 else smooth
        Image.fromarray(picture.astype(np.uint8)).save(home / f"photos/{'noise' if i == 3 else i}.png")
    assert fit_photo_codec(home) == 0
    return home


def fit_photo_codec(home: Path) -> int:
    quick = ("training.steps=2", "training.batch_size=4", "training.patch=16", "training.validate_every=2")
    tiny = ("network.width=4", "network.depth=2", "quantisation=[24.0]", "default_rate=0", "data.validation=noise")
    return fit(home, "photo-compressed", "--data", str(home / "photos"), *quick, *tiny)


FIT_BY_KIND = {"pairs": fit_pairs, "photo_codec": fit_photo_codec}


@pytest.mark.slow
def test_tables_of_photographs_are_counted_on_training_photographs(photo_codec: Path) -> None:
    compression = made_in(photo_codec).compression
    assert compression is not None

    # Of noise, the finest frequencies have symbols far from 0; of smooth photographs they are 0 nearly always.
    finest = compression.rates[0].tables[-1]
    assert len(finest.counts) <= 3


@pytest.mark.slow
def test_figures_of_compressed_photographs_are_those_of_the_ones_kept_back(photo_codec: Path) -> None:
    manifest = made_in(photo_codec)
    (metric,) = manifest.metrics
    assert manifest.compression is not None

    # Tables of smooth photographs cannot write noise; the smooth ones themselves come back with more than 25 dB.
    assert metric.data.startswith("1 validation photograph")
    assert manifest.compression.rates[0].psnr_db < 15


@pytest.mark.parametrize(
    "kind", ["digits", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pairs", "photo_codec"))]
)
def test_a_graph_that_does_not_answer_as_pytorch_does_is_not_published(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """With an onnxruntime whose every answer is a thousandth off."""
    real = onnxruntime.InferenceSession.run

    def distorted(session: object, names: object, feed: object) -> list[Floats]:
        return [y + np.float32(1e-3) for y in real(session, names, feed)]

    home = tmp_path / "home"
    shutil.copytree(request.getfixturevalue(kind), home)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", distorted)

    again = main(["export", str(home / "runs/mine")]) if kind == "digits" else FIT_BY_KIND[kind](home)

    assert again == 1
    assert re.search(r"onnxruntime and PyTorch differ by 1\.[0-9]+e-03", capsys.readouterr().err)
    assert [version.name for version in (home / "models/mine").iterdir()] == ["1"]
