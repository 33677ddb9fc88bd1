"""The service beside a bare loop: what is compared, how it is laid out, and the clients that ask."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.client import AnswerError
from benchmarks.commands import BenchmarkError
from benchmarks.service import Service
from benchmarks.serving.__main__ import main
from benchmarks.serving.beside_bare import OURS, Visit, check, hazelnut, laid_out, made
from benchmarks.serving.closed_loop import ask_again
from tests.service.slowmodel import flat_png
from tests.service.toymodels import publish_toy


def png_of(level: int, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_ratios_are_medians_and_more_than_one_is_better() -> None:
    visits = {
        ("PNG", "onnxruntime", 1): [Visit(10.0, 40.0), Visit(20.0, 40.0), Visit(8.0, 60.0)],
        ("PNG", OURS, 4): [Visit(20.0, 50.0, (100.0, 200.0)), Visit(10.0, 80.0, (300.0,)), Visit(8.0, 80.0, (900.0,))],
    }

    lines = laid_out(visits, ["onnxruntime"]).splitlines()

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][-2:] == ["x bare onnxruntime", "by CPU"]
    assert rows[2] == ["PNG", "bare onnxruntime", "10.0", "40.0", "", "", "", ""]
    assert rows[3] == ["PNG", "hourglass, 4 client(s)", "10.0", "80.0", "300", "900", "1.00", "0.50"]


def test_other_scores_and_other_pixels_are_not_the_same_work() -> None:
    check(b'{"score": 1.0}', b'{"score": 1.005}', "same", is_resized=False)
    check(b'{"score": 1.0}', b'{"score": 2}', "resized by another codec", is_resized=True)
    check(png_of(100), png_of(100), "same", is_resized=False)

    for ours, theirs in (
        (b'{"score": 1.0}', b'{"score": 1.1}'),
        (png_of(100), png_of(102)),
        (png_of(9), png_of(9, side=5)),
    ):
        with pytest.raises(BenchmarkError, match="part"):
            check(ours, theirs, "part", is_resized=False)


def test_pictures_have_the_size_and_kind_that_is_asked_for() -> None:
    for file, kind, size in ((hazelnut(64, 48, "JPEG"), "JPEG", (64, 48)), (made(32, "PNG"), "PNG", (32, 32))):
        with Image.open(io.BytesIO(file)) as image:
            assert (image.format, image.size, image.mode) == (kind, size, "RGB")


def test_every_client_is_answered_and_a_refusal_ends_it(tmp_path: Path) -> None:
    publish_toy(tmp_path)

    with Service(models=tmp_path) as service:
        asked = ask_again(service.port, "/denoise?model=toy", flat_png(4), "image/png", clients=3, seconds=0)
        with pytest.raises(AnswerError, match="404"):
            ask_again(service.port, "/denoise?model=none", flat_png(4), "image/png", clients=1, seconds=0)

    assert len(asked.latencies_s) == 3
    assert all(0 < latency <= asked.wall_s for latency in asked.latencies_s)


def test_a_server_that_does_other_work_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--work", "part", "--servers", "naive"])

    assert "--work part has no server naive; it has hourglass, onnxruntime, openvino" in capsys.readouterr().err
