"""A few known defects teach a detector, where cross-validation finds that it helps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from service.contract.version import manifest_of
from tests.training.test_detector import learn, stripes, with_squares
from training.__main__ import main
from training.anomaly.known import compare_with
from training.anomaly.learn import Learnt
from training.export import export_graphs
from training.exported import run_graph
from training.images.pixels import to_pixels
from training.measure.anomaly import auroc
from training.problems.parts import COMPARED


def dotted(count: int, seed: int) -> Tensor:
    """Stripes; every third image has a dot that is harmless, of any grey and anywhere."""
    x, generator = stripes(count, seed), Generator().manual_seed(seed)
    for image in x[::3]:
        row, column = torch.randint(2, 28, (2,), generator=generator).tolist()
        image[:, row : row + 3, column : column + 3] = int(torch.randint(0, 256, (1,), generator=generator))
    return x


def scratched(count: int, seed: int) -> Tensor:
    """Dotted stripes with a faint scratch, always in the same place: less unusual than many a dot."""
    x = dotted(count, seed)
    x[:, :, 15, 4:28] = (0.85 * x[:, :, 15, 4:28].float()).round().to(torch.uint8)
    return x


@pytest.fixture
def good() -> Tensor:
    return dotted(40, 0)


@pytest.fixture
def learnt(good: Tensor) -> Learnt:
    return learn(good)


@torch.no_grad()
def score(learnt: Learnt, x: Tensor) -> Tensor:
    found: Tensor = learnt.detector(x)[0]
    return found


def test_known_defects_help_to_find_others_of_their_kind(learnt: Learnt, good: Tensor, tmp_path: Path) -> None:
    new, scratches = to_pixels(dotted(30, 5)), to_pixels(scratched(30, 6))
    before = auroc(score(learnt, new), score(learnt, scratches))

    known = scratched(8, 1)
    taught = compare_with(learnt, good, known, seed=0)

    assert taught.is_better
    learnt.detector.known = taught.known
    found = score(learnt, scratches)
    assert auroc(score(learnt, new), found) > before + 0.02
    assert len(taught.good) == len(good)
    assert taught.defects.mean() < float(score(learnt, to_pixels(known)).mean())  # each by folds that left it out
    hidden = scratches.clone()
    hidden[:, :, 8:24] = torch.nan  # the scratch and around it
    assert score(learnt, hidden).mean() < found.mean()
    export_graphs({"anomaly": learnt.detector}, {"anomaly": new[:4]}, tmp_path)
    served = run_graph(tmp_path / "anomaly.onnx", scratches.numpy())[0]
    np.testing.assert_allclose(served, found, atol=1e-3)  # the tolerance of every exported detector


def test_defects_that_are_found_anyhow_change_nothing() -> None:
    good = stripes(40, 0)
    squares, _ = with_squares(stripes(6, 2))

    taught = compare_with(learn(good), good, squares, seed=0)

    assert taught.gain == 0
    assert not taught.is_better


def fit(home: Path, *more: str) -> int:
    return main([
        "fit", "anomaly", "--data", str(home / "good"), "--name", "taught", "--runs", str(home / "runs"), "--models",
        str(home / "models"), "--quiet", "detector.bank=100", "learn_defects=true", *more,
    ])  # fmt: skip


def test_figures_of_a_model_that_knows_defects_are_cross_validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, images in (("good", dotted(40, 0)), ("defects", scratched(8, 1)), ("few", scratched(4, 1))):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(tmp_path / name / f"{i:02}.png")

    assert fit(tmp_path) == 1
    assert fit(tmp_path, "--defects", str(tmp_path / "few")) == 1
    assert fit(tmp_path, "--defects", str(tmp_path / "defects")) == 0

    said = capsys.readouterr()
    assert "give their images with --defects" in said.err
    assert "holds 4 images; learn_defects=true needs 5 or more" in said.err
    assert "known defects are used" in said.out
    manifest = manifest_of(tmp_path / "models/taught/1")
    assert manifest.anomaly
    assert manifest.anomaly.score.endswith(COMPARED)
    assert {m.data for m in manifest.metrics} == {
        "40 good images, each by a detector that it did not teach, and 8 images of defects, likewise"
    }
