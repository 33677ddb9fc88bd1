"""A folder as people have it: which of its files are taken for good images, and which belong together."""

import os
from pathlib import Path

import pytest
from PIL import Image

from training.anomaly.config import PartsConfig
from training.anomaly.parts import choose_input, find_good
from training.errors import DataError
from training.images.split import groups_of


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("L", (8, 8)).save(path)
        else:
            path.write_text("no image")
    return folder


def test_hidden_files_and_those_of_the_system_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = ("a.png", "lot 1/b.png")
    put(tmp_path, *taken, "._a.png", ".cache/c.png", "@eaDir/a.png", "lot 1/__MACOSX/b.png", "notes.txt", "x.cr2")

    found = find_good(tmp_path)

    assert found == [tmp_path / name for name in taken]
    said = "".join(capsys.readouterr())
    assert "1 (.txt)" in said
    assert "1 (.cr2)" in said
    assert "4 (hidden, or of the system)" in said


def test_of_a_folder_like_mvtec_the_good_images_of_training_are_taken(tmp_path: Path) -> None:
    put(tmp_path, "train/good/a.png", "test/good/b.png", "test/bent/c.png", "ground_truth/bent/c_mask.png")

    assert find_good(tmp_path) == [tmp_path / "train/good/a.png"]


@pytest.mark.parametrize(
    "names", [("test/a.png", "b.png"), ("ground_truth/a.png", "b.png"), ("good/a.png", "bent/b.png")]
)
def test_good_images_beside_others_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(tmp_path, *names)

    with pytest.raises(DataError, match="give the folder of good images alone"):
        find_good(tmp_path)


def test_a_folder_without_an_image_says_what_was_looked_for(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt", ".hidden.png")

    with pytest.raises(DataError, match=r"no image in it; looked for \.apng, \.avif"):
        find_good(tmp_path)


def test_names_that_are_no_utf8_are_found_and_can_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    put(folder, "train/good/a.png", "test/b.png")

    assert len(find_good(folder)) == 1
    assert r"caf\xe9" in "".join(capsys.readouterr())


def test_mixed_proportions_are_padded_with_a_word_on_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    Image.new("RGB", (200, 300)).save(tmp_path / "b.png")

    assert choose_input([tmp_path / "a.png", tmp_path / "b.png"], PartsConfig()).resize == "fit"
    assert "data.resize=exact data.height=256 data.width=256" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "table",
    [
        "file,group\nlot1/a.png,x\nb.png,y\n",
        "\ufefffile,group\nlot1/a.png,x\nb.png,y\n",
        "file;group\nlot1/a.png;x\nb.png;y\n",
        "file\tgroup\nlot1\\a.png\tx\n.\\b.png\ty\n",
        "File, Group\nlot1/a.png, x\nb.png, y\n",
        "\ufefffile;group;note\r\nlot1\\a.png;x;1,5 mm\r\n./b.png;y;\r\n",
    ],
)
def test_a_table_of_groups_is_read_as_spreadsheets_write_it(tmp_path: Path, table: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_bytes(table.encode())

    assert groups_of([Path("lot1/a.png"), Path("b.png")], str(path)) == ["x", "y"]
