"""Every notebook runs from its first cell to its last, and the pictures it brings along are not large."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.commands import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 300_000
# What is trained to be looked at takes minutes; that every cell runs is seen after two epochs, too.
SHORTER = {
    "training.epochs=25": "training.epochs=2",
    "training.steps=150": "training.steps=4",
    "training.validate_every=75": "training.validate_every=2",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Jupyter's own packages warn of
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_on_small_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text = path.read_text("utf-8")
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # it has no annotations

    NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()

    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in ran)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_small_and_ends_with_exercises(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it has no annotations

    nbformat.validate(notebook)
    assert path.stat().st_size < MOST_BYTES
    assert "## Exercises" in notebook.cells[-1].source


def test_there_is_a_notebook_for_each_subject() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["anomaly", "autoencoder", "denoising", "search"]
    assert all(any(long in path.read_text("utf-8") for path in NOTEBOOKS) for long in SHORTER)
