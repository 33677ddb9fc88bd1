"""`deploy/bulk/run.py`: a folder through a model without HTTP, equal to the service bit for bit."""

import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.service.slowmodel import until

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy" / "bulk" / "run.py"
MODEL_BY_TASK = {"anomaly": "hazelnut", "encode": "digits", "denoise": "photo"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("service")
    for name in MODEL_BY_TASK.values():
        model = newest(name)
        shutil.copytree(model, folder / "models" / name / model.name)
    items = SecretStr(f"sqlite:///{folder / 'items.db'}")
    settings = Settings(models_dir=folder / "models", device="cpu", collections_url=items)
    with TestClient(create_app(settings)) as client:
        for name in MODEL_BY_TASK.values():
            until(partial(is_live, client, name))
        yield client


def is_live(client: TestClient, name: str) -> bool:
    return client.get(f"/models/{name}").status_code == 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of several kinds and sizes, digits, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    with Image.open(ROOT / "tests" / "data" / "hazelnut.jpg") as photograph:
        photograph.save(folder / "whole.jpg")
        photograph.crop((40, 40, 117, 93)).save(folder / "deep" / "crop.png")
        photograph.convert("L").resize((64, 64)).save(folder / "grey.bmp")
    with Image.open(ROOT / "tests" / "data" / "digit_noisy.png") as digit:
        digit.save(folder / "digit.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def newest(name: str) -> Path:
    return max((ROOT / "models" / name).iterdir(), key=lambda path: int(path.name))


def answers(lines: str) -> dict[str, dict[str, Any]]:  # Any: JSON
    return {document["file"]: document for document in map(json.loads, lines.splitlines())}


@pytest.mark.parametrize("task", list(MODEL_BY_TASK))
def test_the_answers_are_those_of_the_service_bit_for_bit(
    client: TestClient, folder: Path, tmp_path: Path, task: str
) -> None:
    work_on: Callable[..., str] = runpy.run_path(str(SCRIPT))["work_on"]
    model = newest(MODEL_BY_TASK[task])
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.*"))]

    lines = work_on(task, str(model), str(folder), names, str(tmp_path / "out"))

    found = answers(lines)
    assert list(found) == names
    for name, line in zip(names, lines.splitlines(), strict=True):
        expected = client.post(f"/{task}?model={model.parent.name}", content=(folder / name).read_bytes())
        if expected.status_code != 200:
            assert found[name]["problem"] == expected.json()["detail"]
        elif task == "denoise":
            assert (tmp_path / "out" / found[name]["answer"]).read_bytes() == expected.content
        else:
            assert line == f'{{"file": "{name}", "answer": {expected.text}}}'
    assert [name for name, document in found.items() if "problem" in document] == ["broken.png"]


def test_hidden_files_are_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / ".thumbs").mkdir()
    for name in (".thumbs/a.png", "._whole.jpg"):
        (folder / name).write_bytes(b"")

    chunks = runpy.run_path(str(SCRIPT))["chunks_of"](folder, tmp_path / "out", "label")

    assert [sorted(names) for names in chunks.values()] == [
        ["broken.png", "deep/crop.png", "digit.png", "grey.bmp", "whole.jpg"]
    ]


def test_two_processes_of_dask_do_a_folder_and_go_on_where_they_stopped(folder: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("Dask is not installed: `pip install 'dask[distributed]'`")
    output = tmp_path / "out"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    words = [sys.executable, str(SCRIPT), "anomaly", str(folder), "--model", str(newest("hazelnut")), "--output"]

    def run() -> subprocess.CompletedProcess[str]:
        command = [*words, str(output), "--processes", "2"]
        return subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )

    first = run()
    made = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "another.png")
    second = run()

    assert (first.returncode, second.returncode) == (1, 1), first.stderr + second.stderr
    assert "5 images in 1 files, 1 with problems" in first.stderr
    assert "6 images in 1 files, 1 with problems" in second.stderr
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())
    assert len(answers(next(path for path in output.iterdir() if path in made).read_text())) == 5
