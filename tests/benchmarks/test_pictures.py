"""The benchmark of the models for pictures, on small pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.models.__main__ import main
from benchmarks.models.pages import drawn_pages

PAGE = """# Page
<!-- photo-grey: begin -->
old figures
<!-- photo-grey: end -->
between
<!-- photo: begin -->
figures of another model
<!-- photo: end -->
"""


def test_one_model_is_measured_alone_and_only_its_part_of_the_page_changes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, count in (("denoise/Set12", 3), ("bsds500", 4)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            smooth = np.add.outer(np.arange(64 + i), np.arange(72)) + rng.normal(0, 3, (64 + i, 72))
            Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    (docs := tmp_path / "docs").mkdir()
    (docs / "images").mkdir()
    (docs / "restoration.md").write_text(PAGE, "utf-8")

    assert main(["photo-grey", "--data", str(tmp_path), "--docs", str(docs), "--threads", "1"]) == 0

    page = (docs / "restoration.md").read_text("utf-8")
    assert "old figures" not in page
    assert "between\n<!-- photo: begin -->\nfigures of another model\n" in page
    assert "**Set12, grey, Gaussian noise of 50** (3 pictures)" in page
    psnr: dict[str, list[float]] = {"photo-grey": [], "photo-grey, thorough": [], "unprocessed": []}
    for line in page.splitlines():
        name, *figures = [cell.strip() for cell in line.strip("|").split("|")]
        if name in psnr:
            psnr[name].append(float(figures[0]))
    plain, thorough, noisy = psnr.values()
    assert len(plain) == len(noisy) == 3 + 1 + 3  # Gaussian noise of three strengths, photographs, three kinds of noise
    assert all(ours > theirs + 5 for ours, theirs in zip(plain, noisy, strict=True))
    assert thorough == pytest.approx(plain[:4], abs=0.5)
    assert thorough != plain[:4]
    assert (docs / "images/restoration-grey-25.png").read_bytes().startswith(b"\x89PNG")


def test_drawn_pages_are_dirty_and_always_the_same() -> None:
    pages = drawn_pages(2)

    for (dirty, clean), (dirty_again, clean_again) in zip(pages, drawn_pages(2), strict=True):
        assert torch.equal(dirty, dirty_again)
        assert torch.equal(clean, clean_again)
        ink = clean < 0.5
        assert 0.02 < ink.float().mean() < 0.3  # letters on white
        assert clean[~ink].mean() > 0.95
        assert dirty[~ink].mean() < 0.9  # and on paper with shadows
        assert (clean - dirty)[~ink].min() > -0.1
    assert not torch.equal(pages[0][1], pages[1][1])


def test_the_default_is_measured_beside_the_best_level_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "bsds500").mkdir()
    for i in range(4):
        smooth = np.add.outer(np.arange(64 + i), np.arange(72))[..., None] + rng.normal(0, 20, (1, 72, 3))
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(tmp_path / "bsds500" / f"{i}.png")
    (docs := tmp_path / "docs").mkdir()
    (docs / "restoration.md").write_text("<!-- default: begin -->\nold figures\n<!-- default: end -->\nbehind", "utf-8")

    assert main(["default", "--data", str(tmp_path), "--docs", str(docs), "--threads", "1"]) == 0

    page = (docs / "restoration.md").read_text("utf-8")
    assert "old figures" not in page
    assert page.endswith("<!-- default: end -->\nbehind")
    rows = {cells[1].strip(): cells[2:7] for line in page.splitlines() if len(cells := line.split("|")) == 8}
    noisy, best, free = (float(rows["PNG, noise of 50"][i].split()[0]) for i in (0, 3, 4))
    assert best > noisy + 8
    assert free > noisy + 8
    assert rows["clean PNG"][0].strip() == "100.00"  # unprocessed: the picture itself
    assert "JPEG 75 in 4:2:0, noise of 25" in rows
