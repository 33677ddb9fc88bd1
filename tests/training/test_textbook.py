"""The chapter on a small sample: every section, and the claims that hold on any amount of data."""

import re
from pathlib import Path

import pytest

from training.__main__ import main

pytestmark = pytest.mark.slow  # whole trainings


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textbook")
    assert main(["textbook", "--quick", "--quiet", "--runs", str(folder / "runs"), "--docs", str(folder / "docs")]) == 0
    return folder / "docs" / "textbook.md"


def rows_of(page: Path, first_cell: str) -> list[list[float]]:
    """The numbers of every table row that begins with `first_cell`."""
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith(f"| {first_cell} |")]
    return [[float(n) for n in re.findall(r"-?\d+\.\d+", line)] for line in lines]


def test_every_section_is_there_with_pictures_that_exist(page: Path) -> None:
    text = page.read_text("utf-8")

    assert re.findall(r"^## (\d)", text, re.MULTILINE) == ["1", "2", "3", "4", "5", "6", "7"]
    pictures = re.findall(r"\]\((images/[^)]+)\)", text)
    assert len(pictures) == len(set(pictures)) >= 9
    for picture in pictures:
        assert (page.parent / picture).read_bytes().startswith(b"\x89PNG")


def test_every_figure_says_command_data_seed_and_seconds(page: Path) -> None:
    text = page.read_text("utf-8")
    origins = re.findall(
        r"`python -m training textbook --quick`: a sample of MNIST, 1,800 training and 500 test images, seed 0, "
        r"[\d.]+ CPU-seconds",
        text,
    )

    assert len(origins) == text.count("![") + 1  # the tables of the transforms have one of their own


def test_a_linear_autoencoder_spans_the_subspace_of_pca(page: Path) -> None:
    for k in (2, 8):
        angle, by_pca, by_network, _ = rows_of(page, str(k))[0]

        assert angle < 2.0  # degrees; two random planes among 784 dimensions are some 87 apart
        assert by_network == pytest.approx(by_pca, rel=0.005)


def test_a_network_for_one_transform_is_best_at_it_and_one_for_all_lies_between(page: Path) -> None:
    for i, name in enumerate(("as it is", "shuffled", "mirrored")):
        for of_kind, specialist in enumerate(rows_of(page, name)):
            others = [rows_of(page, other)[of_kind][i] for other in ("as it is", "shuffled") if other != name]

            assert specialist[i] < rows_of(page, "all of them")[of_kind][i] < min(others)


def test_a_finished_study_trains_nothing_again(page: Path) -> None:
    runs = page.parent.parent / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("weights.pt")}

    assert main(["textbook", "--quick", "--quiet", "--runs", str(runs), "--docs", str(page.parent)]) == 0

    assert before
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("weights.pt")} == before
