"""Commands over folders: options that reach the service, what is left after an error, and going on after a stop."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hourglass_client import Hourglass, Picture
from hourglass_client.__main__ import main
from hourglass_client.cli.codec import suiting
from hourglass_client.cli.journal import Journal
from hourglass_client.folders import find_images, write_whole
from tests.service.files import pixels_of, png
from tests.service.slowmodel import service_process
from tests.service.toymodels import publish_toy

ROOT = Path(__file__).parents[2]
SHEET = ROOT / "tests" / "data" / "mnist_test_500.png"
HAZELNUT = ROOT / "tests" / "data" / "hazelnut.jpg"


@pytest.fixture(scope="module")
def shipped() -> Iterator[str]:
    """The models for photographs and digits, as they are shipped."""
    with service_process(ROOT / "models") as process:
        yield process.url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(9):
        (folder / f"{i}.png").write_bytes(png(np.full((4, 4), 20 * i, np.uint8)))
    return folder


def run(url: str, *words: str | Path) -> int:
    return main(["--url", url, *map(str, words)])


def test_the_options_of_denoise_and_enhance_reach_the_service(shipped: str, tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(noisy).save(tmp_path / "in.jpg", exif=exif)

    def ask(command: str, *words: str) -> bytes:
        assert run(shipped, command, tmp_path / "in.jpg", tmp_path / "out.jpg", *words) == 0
        return (tmp_path / "out.jpg").read_bytes()

    plain = ask("denoise", "--sigma", "25")
    for words in (("--sigma", "50"), ("--strength", "0.5"), ("--thorough",), ("--quality", "30")):
        assert ask("denoise", "--sigma", "25", *words) != plain, words
    assert b"Maker" in ask("denoise", "--metadata", "keep")
    assert b"Maker" not in ask("denoise", "--metadata", "drop")
    larger = ask("enhance")
    assert pixels_of(larger).shape == (48, 48, 3)
    for words in (("--thorough",), ("--quality", "30"), ("--metadata", "keep")):
        assert ask("enhance", *words) != larger, words


@pytest.mark.parametrize("command", ["denoise", "enhance"])
def test_an_array_of_any_range_is_answered_in_its_range(shipped: str, tmp_path: Path, command: str) -> None:
    counts = np.random.default_rng(0).normal(3000, 100, (24, 24)).astype(np.float32)
    np.save(tmp_path / "in.npy", counts)

    assert run(shipped, command, tmp_path / "in.npy", tmp_path / "out.npy", "--data-range", "4095") == 0
    assert run(shipped, command, tmp_path / "in.npy", tmp_path / "auto.npy", "--data-range", "auto") == 0

    for name in ("out.npy", "auto.npy"):
        assert np.load(tmp_path / name).mean() == pytest.approx(3000, abs=20)
    with Hourglass(shipped) as hourglass:
        by_method = getattr(hourglass, command)(counts, data_range=4095).array()
    np.testing.assert_array_equal(by_method, np.load(tmp_path / "out.npy"))


@pytest.mark.parametrize("before", [None, b"an older answer"])
def test_an_answer_that_is_an_error_leaves_no_file(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bytes | None
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    target = tmp_path / "out" / "clean.png"
    target.parent.mkdir()
    if before is not None:
        target.write_bytes(before)

    for words in (("denoise",), ("denoise", "--sigma", "25"), ("heatmap",), ("mask",), ("denoise", "--model", "none")):
        assert run(url, *words, tmp_path / "broken.png", target) == 2
        assert "hourglass: " in capsys.readouterr().err

    left = [] if before is None else [target]
    assert [file for file in target.parent.iterdir() if file.is_file()] == left
    assert before is None or target.read_bytes() == before


def test_a_file_that_cannot_be_written_whole_is_not_left_in_parts(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")

    write_whole(tmp_path / "link.png", b"whole")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "real.png", "no bytes")  # type: ignore[arg-type]
    write_whole("/dev/null", b"whole")

    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"whole"
    assert {file.name for file in tmp_path.iterdir()} == {"link.png", "real.png"}


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".thumbs/a.png", "__MACOSX/b.png", "._c.png", "deep/d.png", ".hidden/deep/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    assert find_images([tmp_path]) == [tmp_path / "deep" / "d.png"]
    assert find_images([tmp_path / ".thumbs"]) == [tmp_path / ".thumbs" / "a.png"]  # who names it means it


def asked_files(monkeypatch: pytest.MonkeyPatch, method: str) -> list[str]:
    """The names of the files that a method of the client is asked about, from now on."""
    asked: list[str] = []
    real = getattr(Hourglass, method)

    def spy(self: Hourglass, image: Path, **words: object) -> object:
        asked.append(Path(image).name)
        return real(self, image, **words)

    monkeypatch.setattr(Hourglass, method, spy)
    return asked


def test_denoise_goes_on_where_it_stopped(
    url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = tmp_path / "clean"
    real = Picture.save

    def stop_after_three(picture: Picture, path: Path) -> None:
        real(picture, path)
        if path.name == "2.png":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Picture, "save", stop_after_three)
        assert run(url, "denoise", folder, clean) == 130
    asked = asked_files(monkeypatch, "denoise")

    assert run(url, "denoise", folder, clean) == 0
    assert sorted(asked) == [f"{i}.png" for i in range(3, 9)]
    assert "3 of 9 are in" in capsys.readouterr().err
    assert [pixels_of((clean / f"{i}.png").read_bytes())[0, 0] for i in range(9)] == [10 * i for i in range(9)]

    for words, expected in (
        ((), []),
        (("--model", "toy"), [f"{i}.png" for i in range(9)]),  # asked differently: nothing there counts
        (("--model", "toy"), []),
        (("--model", "toy", "--again"), [f"{i}.png" for i in range(9)]),
    ):
        asked.clear()
        assert run(url, "denoise", folder, clean, *words) == 0
        assert sorted(asked) == expected

    asked.clear()
    (folder / "4.png").write_bytes(png(np.full((4, 4), 200, np.uint8)))
    assert run(url, "denoise", folder, clean, "--model", "toy") == 0
    assert asked == ["4.png"]  # it has been changed since


def test_answers_are_not_written_over_the_images(url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}

    assert run(url, "denoise", folder, folder) == 2

    assert "would overwrite" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def stop_after(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Stops a command as Ctrl-C does, after so many rows."""
    real, count = Journal.add, 0

    def add(self: Journal, file: Path, row: dict[str, object]) -> None:
        nonlocal count
        real(self, file, row)
        count += 1
        if count == rows:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", add)


def test_anomaly_goes_on_where_it_stopped_and_its_table_is_as_if_it_had_not(
    url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "5.png").write_bytes(png(np.full((4, 4), 250, np.uint8)))
    (folder / "6.png").write_bytes(b"no picture")
    assert run(url, "anomaly", folder, "--csv", tmp_path / "whole.csv") == 1
    table = tmp_path / "verdicts.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(url, "anomaly", folder, "--csv", table) == 130
    assert not table.exists()
    with Path(f"{table}.part").open("a") as journal:
        journal.write('{"file": "torn')  # a kill in the middle of a line
    asked = asked_files(monkeypatch, "anomaly")
    capsys.readouterr()

    assert run(url, "anomaly", folder, "--csv", table) == 1

    said = capsys.readouterr().err
    assert sorted(asked) == [f"{i}.png" for i in range(4, 9)]
    assert "4 of 9 were judged before" in said
    assert "9 images, 1 anomalous, 1 could not be judged" in said
    assert table.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not Path(f"{table}.part").exists()


def test_what_was_judged_otherwise_does_not_count(
    url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "verdicts.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(url, "anomaly", folder, "--csv", table) == 130
    asked = asked_files(monkeypatch, "anomaly")

    run(url, "anomaly", folder, "--csv", table, "--max-fpr", "0.99")

    assert len(asked) == 9


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_encode_writes_a_table_of_latents_and_goes_on_where_it_stopped(
    url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    table = tmp_path / f"latents.{ending}"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(url, "encode", folder, table) == 130
    asked = asked_files(monkeypatch, "encode")

    assert run(url, "encode", folder, table) == 0

    assert sorted(asked) == [f"{i}.png" for i in range(4, 9)]
    expected = np.repeat(np.arange(9, dtype=np.float32)[:, None] * 20 / 255, 4, axis=1)
    if ending == "npz":
        with np.load(table) as found:
            names, latents, models = found["files"], found["latents"], [str(found["model"])] * 9
    else:
        rows = list(csv.DictReader(io.StringIO(table.read_text())))
        names, models = np.array([row["file"] for row in rows]), [row["model"] for row in rows]
        latents = np.array([[row[f"z{i}"] for i in range(4)] for row in rows], np.float32)
    assert list(names) == [str(folder / f"{i}.png") for i in range(9)]
    assert models == ["toy/1"] * 9
    np.testing.assert_allclose(latents, expected, rtol=1e-6)


def test_latents_of_one_table_are_of_one_version(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_toy(tmp_path / "models")
    table = tmp_path / "latents.npz"
    with service_process(tmp_path / "models") as process, monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(process.url, "encode", folder, table) == 130
    publish_toy(tmp_path / "models", version=2)

    with service_process(tmp_path / "models") as process:
        assert run(process.url, "encode", folder, table) == 0

    with np.load(table) as found:
        assert (str(found["model"]), len(found["files"])) == ("toy/1", 9)


def test_a_service_that_goes_away_stops_the_command_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hourglass_client.retry.Retry.pause_s", lambda *_: None)
    asked = asked_files(monkeypatch, "anomaly")

    assert run("http://127.0.0.1:9", "anomaly", folder, "--at-once", "1", "--csv", tmp_path / "v.csv") == 2

    assert re.search(r"hourglass: http://127.0.0.1:9\S* does not answer", capsys.readouterr().err)
    assert len(asked) <= 3  # the one that failed and what was asked ahead of it
    assert not (tmp_path / "v.csv").exists()


def test_encode_names_what_it_wants(url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((folder,), (folder, folder / "1.png")):
        assert run(url, "encode", *words) == 2
        assert ".csv or .npz" in capsys.readouterr().err


# --- the model that suits ---


def test_compress_takes_the_model_that_suits_and_says_why(
    shipped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits, pieces = tmp_path / "digits", tmp_path / "pieces"
    digits.mkdir()
    pieces.mkdir()
    with Image.open(SHEET) as sheet, Image.open(HAZELNUT) as photograph:
        for i in range(20):
            box = (28 * i, 28, 28 * i + 28, 56)
            sheet.crop(box).save(digits / f"{i}.png")
        grey = photograph.convert("L")
        for i in range(4):
            grey.crop((28 * i, 60, 28 * i + 28, 88)).save(pieces / f"{i}.png")

    for paths, model, reason in (
        ([digits], "digits-compressed", "digits-compressed fits these images"),
        ([pieces], "photo-compressed", "takes 28x28, but does not know such images"),
        ([HAZELNUT], "photo-compressed", "no other takes 192x192 in colour"),
        ([HAZELNUT, digits], "photo-compressed", "not all of one size"),
    ):
        assert run(shipped, "compress", *paths, tmp_path / "file.hg") == 0
        said = capsys.readouterr().err
        assert reason in said
        assert f"by {model}/" in said
    assert run(shipped, "compress", digits, tmp_path / "file.hg", "--model", "photo-compressed") == 0
    assert "by photo-compressed/" in capsys.readouterr().err


def test_what_cannot_be_opened_here_is_left_to_the_service(shipped: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"no array")

    with Hourglass(shipped) as hourglass:
        assert suiting(hourglass, [tmp_path / "a.npy"])[0] is None


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])

    assert stopped.value.code == 0
    assert re.fullmatch(r"hourglass-client \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_an_unfinished_journal_keeps_whole_lines_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    with Journal(tmp_path / "journal", {"command": "x"}) as journal:
        journal.add(tmp_path / "a.png", {"model": "toy/1"})
    lines = (tmp_path / "journal").read_text().splitlines()

    assert json.loads(lines[0]) == {"command": "x"}
    with Journal(tmp_path / "journal", {"command": "x"}) as journal:
        assert journal.row(tmp_path / "a.png") == {"model": "toy/1"}
    (tmp_path / "a.png").write_bytes(b"22")
    with Journal(tmp_path / "journal", {"command": "x"}) as journal:
        assert journal.row(tmp_path / "a.png") is None  # another image by the same name
