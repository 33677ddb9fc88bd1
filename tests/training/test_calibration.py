"""Calibration of a run over a graph whose answers can be computed on paper: the map is x², its mean the score."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from service.contract.manifest import Metric
from service.contract.sections import Calibration
from tests.service.toymodels import toy_graphs
from training import calibration as calibrating
from training.anomaly.aligned import AlignedDetector
from training.calibration import Answers, answers_of, calibrate, conformal_threshold, false_positive_rate, too_few
from training.config import Recipe
from training.images.dataset import Dataset
from training.recipe import load_recipe
from training.run import GRAPHS, Run


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "anomaly.onnx"
    path.write_bytes(toy_graphs(1, 4, 4)["anomaly"])
    return path


def flat(*levels: int) -> torch.Tensor:
    """Images of one level each, but for their first pixel, which is white."""
    images = torch.stack([torch.full((1, 4, 4), level, dtype=torch.uint8) for level in levels])
    images[:, 0, 0, 0] = 255
    return images


def score_of(level: int) -> float:
    return (15 * (level / 255) ** 2 + 1) / 16


@pytest.mark.parametrize("chunk", [1, 16, 33, 1_000_000])
def test_answers_come_in_the_order_of_the_images_whatever_goes_at_once(
    graph: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrating, "CHUNK_PIXELS", chunk)

    answers = answers_of(graph, flat(0, 200, 100, 50, 150))

    assert answers.scores == pytest.approx([score_of(level) for level in (0, 200, 100, 50, 150)])
    assert answers.peaks.tolist() == [1.0] * 5
    assert answers.scores.dtype == answers.peaks.dtype == np.float32
    assert capsys.readouterr().err == ""  # no bar unless it is asked for


def test_no_image_has_no_answer_and_a_bar_says_what_it_counts(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = answers_of(graph, flat(0)[:0])
    answers_of(graph, flat(0, 1), progress=True)

    assert (none.scores.shape, none.peaks.shape) == ((0,), (0,))
    shown = capsys.readouterr().err
    assert "score: 100%" in shown
    assert "batch/s" in shown


def test_the_share_of_false_alarms_counts_scores_at_or_above_the_threshold() -> None:
    calibration = Calibration(score="any", target_fpr=0.05, threshold=2.0, scores=(0.0, 1.0))
    answers = Answers(np.array([1, 2, 3, 1.9], np.float32), np.zeros(4, np.float32))

    assert false_positive_rate(calibration, answers, data="test images of toys") == Metric(
        name="false_positive_rate",
        task="anomaly",
        value=0.5,
        unit="share of images",
        data="4 test images of toys, all normal",
        higher_is_better=False,
        baselines={"asked for": 0.05},
    )


@pytest.mark.parametrize("progress", [True, False])
def test_a_run_is_calibrated_on_its_calibration_images_and_measured_on_its_test_images(
    graph: Path, progress: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("digits", ("target_fpr=0.25",), of=Recipe)
    calibration, test = flat(*range(10, 80, 10)), flat(0, 65, 75, 255)
    data = Dataset("toys", "made here", "CC0-1.0", "0" * 64, flat(255), flat(254), calibration, test)
    run = Run(graph.parent, "toys", recipe, lambda: data)
    run.write(GRAPHS, {})

    calibrate(run, progress=progress)

    found = json.loads((graph.parent / "calibration.json").read_text())
    scores = [score_of(level) for level in range(10, 80, 10)]
    assert found["calibration"]["scores"] == pytest.approx(scores)
    assert found["calibration"]["map_peaks"] == [1.0] * 7
    assert found["calibration"]["target_fpr"] == 0.25
    assert found["calibration"]["score"] == AlignedDetector.description
    # Of seven scores, a quarter of 7 + 1 lets one lie above, beside the new image itself.
    assert found["calibration"]["threshold"] == pytest.approx(score_of(60), rel=1e-5)
    (metric,) = found["metrics"]
    assert metric["value"] == 0.75
    assert metric["data"] == "4 test images of toys, all normal"
    assert ("score: 100%" in capsys.readouterr().err) == progress


def test_a_run_without_graphs_is_told_how_to_make_them(tmp_path: Path) -> None:
    recipe = load_recipe("digits", of=Recipe)
    run: Run[Recipe, Dataset] = Run(tmp_path, "toys", recipe, lambda: pytest.fail("images were read"))

    with pytest.raises(Exception, match="training export"):
        calibrate(run)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.05, 9.0), (0.1, 9.0), (0.19, 9.0), (0.2, 8.0), (0.25, 8.0), (0.3, 7.0), (0.999, 1.0), (1e-9, 9.0)],
)
def test_a_threshold_lies_just_above_one_of_nine_scores_in_any_order(rate: float, expected: float) -> None:
    values = [3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0, 4.0, 6.0]

    assert conformal_threshold(values, rate) == float(np.nextafter(np.float32(expected), np.float32(np.inf)))


@pytest.mark.parametrize(("count", "is_enough"), [(98, False), (99, True)])
def test_a_rate_of_a_hundredth_needs_ninety_nine_scores(count: int, is_enough: bool) -> None:
    calibration = Calibration(score="any", target_fpr=0.01, threshold=1.0, scores=(0.0,) * count)

    assert (too_few(calibration) is None) == is_enough
