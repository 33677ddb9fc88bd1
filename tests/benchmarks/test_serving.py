"""The service beside a bare loop: what is compared, how it is laid out, and the clients that ask."""

import asyncio
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from benchmarks.client import AnswerError
from benchmarks.commands import BenchmarkError
from benchmarks.http.replicas import poisson
from benchmarks.peers.graph import Graph
from benchmarks.reliability.load import post
from benchmarks.samples import NOISY
from benchmarks.service import Service, newest
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


@pytest.fixture(scope="module")
def toy_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    publish_toy(models := tmp_path_factory.mktemp("models"))
    with Service(models=models) as service:
        yield service.port


def test_every_client_is_answered_and_a_refusal_ends_it(toy_port: int) -> None:
    asked = ask_again(toy_port, "/denoise?model=toy", flat_png(4), "image/png", clients=3, seconds=0)
    with pytest.raises(AnswerError, match="404"):
        ask_again(toy_port, "/denoise?model=none", flat_png(4), "image/png", clients=1, seconds=0)

    assert len(asked.latencies_s) == 3
    assert all(0 < latency <= asked.wall_s for latency in asked.latencies_s)


def test_requests_at_random_times_are_a_mixture_and_all_are_answered(toy_port: int) -> None:
    requests = [post(flat_png(4), f"/denoise?model={name}") for name in ("toy", "none")]

    outcomes = asyncio.run(poisson(toy_port, requests, 1000, 0.05, np.random.default_rng(0)))

    assert len(outcomes) == 50
    assert {outcome.status for outcome in outcomes} == {200, 404}


def test_peers_answer_with_the_picture_or_the_score_of_a_graph() -> None:
    digits = newest("digits")

    (clean,) = Graph(str(digits / "denoise.onnx")).answer([NOISY])
    (score,) = Graph(str(digits / "anomaly.onnx")).answer([png_of(0, side=56)])

    with Image.open(io.BytesIO(clean)) as image:
        assert (image.size, image.mode) == ((28, 28), "L")
    assert json.loads(score)["score"] > 0


def test_a_server_that_does_other_work_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--work", "part", "--servers", "naive"])

    assert (
        "--work part has no server naive; it has hourglass, litserve, bentoml, mlserver, onnxruntime, openvino"
        in capsys.readouterr().err
    )
