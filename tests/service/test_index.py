"""`python -m service index` and `rebuild`, as they are typed."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.collections.cli import main
from service.settings import PREFIX
from tests.service.conftest import MakeClient
from tests.service.files import png, to_npy
from tests.service.slowmodel import ROOT
from tests.service.toymodels import publish_toy


def command(models_dir: Path, *words: str) -> list[str]:
    url = f"sqlite:///{models_dir.parent / 'collections' / 'items.db'}"
    flags = ["--models-dir", str(models_dir), "--collections-url", url, "--device", "cpu"]
    return [sys.executable, "-m", "service", *words, *flags]


def run(models_dir: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What the command does and says, in this process: starting another one takes a second."""
    arguments = command(models_dir, *words)
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        for name, value in environ.items():
            patch.setenv(name, value)
        code = main(arguments[3:])  # after python -m service
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def picture(level: int) -> bytes:
    return png(np.full((4, 4), level, np.uint8))


@pytest.fixture
def folder(tmp_path: Path, models_dir: Path) -> Path:
    publish_toy(models_dir)
    for name, levels in {"dark": (0, 10), "light": (245, 255)}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for level in levels:
            (tmp_path / "images" / name / f"{level}.png").write_bytes(picture(level))
    return tmp_path / "images"


def latents(client: TestClient, name: str) -> dict[str, float]:
    """The first number of every item's latent, which is the same as the others here."""
    items = client.get(f"/collections/{name}/items").json()["items"]
    return {i["id"]: client.get(f"/collections/{name}/items/{i['id']}").json()["latent"][0] for i in items}


def test_a_folder_becomes_a_collection_that_the_service_finds(
    folder: Path, models_dir: Path, make_client: MakeClient
) -> None:
    client = make_client()

    words = command(models_dir, "index", str(folder), "--collection", "c", "--labels-from-folders")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}

    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "c: 4 new, 0 there already, 0 with problems; vectors of toy/1\n"
    answer = client.post("/collections/c/classify?k=2", content=picture(20)).json()
    assert (answer["label"], answer["neighbours"][0]["id"]) == ("dark", "dark/10.png")


def test_what_is_there_is_skipped(folder: Path, models_dir: Path) -> None:
    run(models_dir, "index", str(folder), "--collection", "c")
    (folder / "more.png").write_bytes(picture(99))
    for hidden in (".thumbs/a.png", "__MACOSX/b.png", "._c.png"):  # what systems leave is no image of the user
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(picture(1))

    done = run(models_dir, "index", str(folder), "--collection", "c")

    assert done.stdout == "c: 1 new, 4 there already, 0 with problems; vectors of toy/1\n"


def test_broken_files_are_named_and_left_out(folder: Path, models_dir: Path) -> None:
    (folder / "broken.png").write_bytes(picture(1)[:40])
    (folder / "-x.png").write_bytes(picture(1))
    (folder / "several.npy").write_bytes(to_npy(np.zeros((2, 1, 4, 4), np.uint8)))
    (folder / "large.png").write_bytes(picture(1) + bytes(2000))

    done = run(models_dir, "index", str(folder), "--collection", "c", HOURGLASS_MAX_BODY_BYTES="1024")

    assert done.returncode == 1
    assert done.stdout == "c: 4 new, 0 there already, 4 with problems; vectors of toy/1\n"
    reasons = dict(line.removeprefix(f"{folder}/").split(": ", 1) for line in done.stderr.splitlines())
    assert set(reasons) == {"broken.png", "-x.png", "several.npy", "large.png"}
    assert "2 images" in reasons["several.npy"]
    assert "max_body_bytes" in reasons["large.png"]


def test_a_table_gives_labels_and_metadata(
    folder: Path, models_dir: Path, tmp_path: Path, make_client: MakeClient
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,label,lot\ndark/0.png,black,12\nlight/255.png,,13\n", "utf-8")

    done = run(models_dir, "index", str(folder), "--collection", "c", "--labels", str(table))

    items = {i["id"]: (i["label"], i["metadata"]) for i in make_client().get("/collections/c/items").json()["items"]}
    assert done.returncode == 0
    assert items == {
        "dark/0.png": ("black", {"lot": "12"}),
        "dark/10.png": (None, None),
        "light/245.png": (None, None),
        "light/255.png": (None, {"lot": "13"}),
    }


def test_a_rebuild_gives_new_vectors_and_keeps_what_was_said(
    folder: Path, models_dir: Path, make_client: MakeClient
) -> None:
    run(models_dir, "index", str(folder), "--collection", "c", "--labels-from-folders")
    publish_toy(models_dir, version=2, manifest_changes={"summary": "another"})
    (folder / "dark" / "10.png").write_bytes(picture(50))
    client = make_client()

    before = run(models_dir, "rebuild", str(folder), "--collection", "nothing")
    done = run(models_dir, "rebuild", str(folder), "--collection", "c")
    again = run(models_dir, "rebuild", str(folder), "--collection", "c")

    assert (before.returncode, "no collection 'nothing'" in before.stderr) == (2, True)
    assert (done.returncode, done.stdout) == (0, "c: 4 items have vectors of toy/2 now, 0 are gone\n")
    assert again.stdout == "c: has vectors of toy/2 already\n"
    assert client.get("/collections/c").json()["version"] == 2
    assert np.allclose(list(latents(client, "c").values()), np.array([0, 50, 245, 255]) / 255)
    assert client.get("/collections/c/items/light/255.png").json()["label"] == "light"
    assert [c["collection"] for c in client.get("/collections").json()] == ["c"]


def test_a_rebuild_without_all_files_changes_nothing_unless_told_to(
    folder: Path, models_dir: Path, make_client: MakeClient
) -> None:
    run(models_dir, "index", str(folder), "--collection", "c")
    publish_toy(models_dir, version=2)
    (folder / "dark" / "0.png").unlink()
    (folder / "dark" / "10.png").write_bytes(b"broken")
    client = make_client()

    refused = run(models_dir, "rebuild", str(folder), "--collection", "c")
    kept = client.get("/collections/c").json()
    dropped = run(models_dir, "rebuild", str(folder), "--collection", "c", "--missing", "drop")

    assert (refused.returncode, kept["version"], kept["items"]) == (2, 1, 4)
    assert "1 of 4 items have no file" in refused.stderr
    assert dropped.stdout == "c: 2 items have vectors of toy/2 now, 2 are gone\n"
    assert client.get("/collections/c").json().items() >= {"version": 2, "items": 2}.items()


@pytest.mark.slow
def test_indexing_that_was_killed_goes_on(folder: Path, models_dir: Path, make_client: MakeClient) -> None:
    rng = np.random.default_rng(0)
    for i in range(3000):
        (folder / f"{i:04}.png").write_bytes(png(rng.integers(0, 256, (4, 4), np.uint8)))
    client = make_client()
    popen = subprocess.Popen(command(models_dir, "index", str(folder), "--collection", "c"), cwd=ROOT)
    while client.get("/collections/c").status_code == 404 and popen.poll() is None:
        time.sleep(0.01)

    popen.send_signal(signal.SIGKILL)
    popen.wait()
    there = client.get("/collections/c").json()["items"]
    done = run(models_dir, "index", str(folder), "--collection", "c")

    assert there > 0
    assert done.stdout == f"c: {3004 - there} new, {there} there already, 0 with problems; vectors of toy/1\n"


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("index", "nowhere", "--collection", "c"), "nowhere is not a folder"),
        (("index", "docs", "--collection", "C"), "is not a valid collection name"),
        (("index", "deploy", "--collection", "c"), "no images in deploy"),
        (("index", "docs", "--collection", "c", "--model", "nobody"), "no model 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, models_dir: Path, words: tuple[str, ...], cure: str) -> None:
    done = run(models_dir, *words)

    assert (done.returncode, cure in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
