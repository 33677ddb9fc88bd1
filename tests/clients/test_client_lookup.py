"""Collections from the command line, by a running service."""

from pathlib import Path

import numpy as np
import pytest

from hourglass_client.__main__ import main
from tests.service.files import png


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two dark pictures, two light ones, and one that is broken."""
    for label, levels in (("dark", (10, 20)), ("light", (200, 210))):
        (tmp_path / "parts" / label).mkdir(parents=True)
        for level in levels:
            (tmp_path / "parts" / label / f"{level}.png").write_bytes(png(np.full((4, 4), level, np.uint8)))
    (tmp_path / "parts" / "light" / "torn.png").write_bytes(b"no picture")
    (tmp_path / "new.png").write_bytes(png(np.full((4, 4), 205, np.uint8)))
    return tmp_path / "parts"


def run(url: str, *words: str | Path) -> int:
    return main(["--url", url, *map(str, words)])


def test_a_folder_is_kept_searched_and_asked_what_an_image_is(
    url: str, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = parts.parent / "new.png"

    assert run(url, "put", "parts", parts, "--labels-from-folders") == 1
    put = capsys.readouterr()
    assert run(url, "search", "parts", new, "--k", "2") == 0
    found = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert run(url, "classify", "parts", new, "--k", "2") == 0
    named = capsys.readouterr().out

    assert f"{parts}/dark/10.png: kept as dark/10.png, a dark\n" in put.out
    assert put.out.count("kept as") == 4
    assert "torn.png: " in put.err
    assert sorted((item, label) for item, _, label in found) == [("light/200.png", "light"), ("light/210.png", "light")]
    assert all(float(distance) > 0 for _, distance, _ in found)
    assert named == f"{new}: light, 100% of the vote\n"


def test_several_images_are_named_in_what_is_found(url: str, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = parts.parent / "new.png"
    assert run(url, "put", "few", parts / "dark", "--label", "night") == 0
    capsys.readouterr()

    assert run(url, "search", "few", new, parts / "dark" / "10.png", "--k", "1") == 0

    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (str(new), "20.png", "night"),
        (f"{parts}/dark/10.png", "10.png", "night"),
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("search", "nowhere", "new.png"), "nowhere"),
        (("classify", "nowhere", "empty"), "no images in"),
        (("put", "c", "parts/dark/10.png", "again/10.png"), "same id"),
    ],
)
def test_what_cannot_be_done_is_said(
    url: str, parts: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    (parts.parent / "empty").mkdir()
    (parts.parent / "again").mkdir()
    (parts.parent / "again" / "10.png").write_bytes((parts / "dark" / "10.png").read_bytes())
    command, collection, *paths = words

    code = run(url, command, collection, *(parts.parent / path for path in paths))

    assert code == (1 if command == "search" else 2)
    assert reason in capsys.readouterr().err
