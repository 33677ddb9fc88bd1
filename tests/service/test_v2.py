"""The Open Inference Protocol, asked by NVIDIA's own client, and byte by byte where that one cannot go wrong."""

import asyncio
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from benchmarks.service import newest
from service.api import open_inference
from service.contract.manifest import Task
from service.contract.version import manifest_of
from service.errors import TooManyPixels
from service.limits import InputLimits
from service.models.provider import CPU
from service.models.session import Session
from tests.service.conftest import MakeClient, started
from tests.service.rawclient import get
from tests.service.slowmodel import ROOT, Process, service_process, until
from tests.service.toymodels import publish_blur, publish_toy

DIGITS = sorted((ROOT / "models" / "digits").iterdir(), key=lambda path: int(path.name))[-1]
LEVELS = [None, "gzip", "deflate"]
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def served() -> Iterator[Process]:
    with service_process(ROOT / "models") as process:
        until(lambda: get(process.port, "/health/ready").status == 200)
        yield process


@pytest.fixture
def client(served: Process) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        yield client


@pytest.fixture(scope="module")
def batch(mnist_digits: NDArray[np.float32]) -> NDArray[np.float32]:
    return mnist_digits[:5]


def expected(task: str, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """What onnxruntime itself says."""
    session = Session((DIGITS / f"{task}.onnx").read_bytes(), provider=CPU, threads=1)
    return session.run(x)


def asked(x: NDArray[np.float32], *, is_binary: bool, name: str = "x") -> Any:  # noqa: ANN401  it has no types
    tensor = triton.InferInput(name, list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=is_binary)
    return tensor


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("sent", LEVELS)
@pytest.mark.parametrize("wanted", LEVELS)
def test_answers_equal_onnxruntime_to_the_bit(
    client: triton.InferenceServerClient,
    batch: NDArray[np.float32],
    is_binary: bool,
    sent: str | None,
    wanted: str | None,
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("score", "map")]

    result = client.infer(
        "digits.anomaly",
        [asked(batch, is_binary=is_binary)],
        outputs=outputs,
        request_id="seven",
        request_compression_algorithm=sent,
        response_compression_algorithm=wanted,
    )

    scores, maps = expected("anomaly", batch)
    np.testing.assert_array_equal(result.as_numpy("score"), scores)
    np.testing.assert_array_equal(result.as_numpy("map"), maps)
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == DIGITS.name


@pytest.mark.parametrize("task", ["denoise", "encode", "decode", "anomaly"])
def test_every_task_is_a_model_and_all_outputs_come_if_none_is_named(
    client: triton.InferenceServerClient, batch: NDArray[np.float32], task: str
) -> None:
    x = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32) if task == "decode" else batch
    metadata = client.get_model_metadata(f"digits.{task}")
    (tensor,) = metadata["inputs"]

    result = client.infer(f"digits.{task}", [asked(x, is_binary=True, name=tensor["name"])])

    assert tensor["shape"] == [-1, *x.shape[1:]]
    for output, value in zip(metadata["outputs"], expected(task, x), strict=True):
        np.testing.assert_array_equal(result.as_numpy(output["name"]), value)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_asyncio_client_works_as_well(
    served: Process, batch: NDArray[np.float32], is_binary: bool, level: str | None
) -> None:
    async def ask() -> Any:  # noqa: ANN401  it has no types
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("digits.denoise")
            return await client.infer(
                "digits.denoise",
                [asked(batch, is_binary=is_binary)],
                model_version=DIGITS.name,
                request_compression_algorithm=level,
                response_compression_algorithm=level,
            )

    result = asyncio.run(ask())

    np.testing.assert_array_equal(result.as_numpy("x_hat"), expected("denoise", batch)[0])


def test_the_service_says_what_it_is_and_has(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits.encode")
    assert not client.is_model_ready("digits.enchant")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("digits-unet.denoise")
    assert (metadata["name"], metadata["platform"]) == ("digits-unet.denoise", "onnxruntime_onnx")
    config = client.get_model_config("digits.encode")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 28, 28]}]
    assert config["output"] == [{"name": "z", "data_type": "TYPE_FP32", "dims": [32]}]
    assert config["max_batch_size"] == 256
    index = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert index["digits.denoise"] == index["digits-unet.denoise"] == "READY"


def test_statistics_count_what_was_asked(client: triton.InferenceServerClient, batch: NDArray[np.float32]) -> None:
    def of_encode() -> dict[str, Any]:
        (found,) = client.get_inference_statistics("digits.encode")["model_stats"]
        assert found in client.get_inference_statistics()["model_stats"]
        return dict(found)

    before = of_encode()
    client.infer("digits.encode", [asked(batch, is_binary=True)])
    after = of_encode()

    assert after["inference_count"] - before["inference_count"] == 5
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]


def test_problems_are_told_to_the_client(client: triton.InferenceServerClient, batch: NDArray[np.float32]) -> None:
    wide = np.zeros((1, 1, 28, 29), np.float32)
    for model, x, sentence in (
        ("digit.denoise", batch, "no model 'digit'; live models: "),
        ("digits", batch, "digits.denoise, digits.encode"),
        ("digits-unet.encode", batch, "there are digits-unet.denoise"),
        ("digits.denoise", wide, "takes [-1, 1, 28, 28]"),
        ("digits.denoise", np.full((1, 1, 28, 28), np.nan, np.float32), "NaN or infinity"),
        ("digits.denoise", np.zeros((257, 1, 28, 28), np.float32), "the limit is 256"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, [asked(x, is_binary=True)])
        assert sentence in caught.value.message()
    with pytest.raises(InferenceServerException, match="version 99"):
        client.infer("digits.denoise", [asked(batch, is_binary=True)], model_version="99")


def test_load_takes_up_a_new_version_at_once_and_unload_is_refused(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with (
        service_process(tmp_path, "--watch-interval-s", "3600") as process,
        triton.InferenceServerClient(f"127.0.0.1:{process.port}") as client,
    ):
        publish_toy(tmp_path, version=2)
        before = client.get_model_metadata("toy.denoise")["versions"]
        client.load_model("toy.denoise")
        after = client.get_model_metadata("toy.denoise")["versions"]
        with pytest.raises(InferenceServerException, match="no model 'other'"):
            client.load_model("other.denoise")
        with pytest.raises(InferenceServerException, match="models follow the directory"):
            client.unload_model("toy.denoise")

    assert (before, after) == (["1"], ["1", "2"])


# --- byte by byte ---


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    directory = tmp_path_factory.mktemp("home") / "models"
    publish_toy(directory)
    with started(directory, max_body_bytes=4096, max_pixels=64) as toy:
        yield toy


def tensor(data: Any, shape: list[int] | None = None) -> dict[str, Any]:  # noqa: ANN401  right or wrong
    return {"name": "x", "shape": shape or [1, 1, 4, 4], "datatype": "FP32", "data": data}


def request_of(**changes: Any) -> bytes:  # noqa: ANN401  right or wrong
    return json.dumps({"inputs": [{**tensor([0.5] * 16), **changes}]}).encode()


def error_of(toy: TestClient, body: bytes, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = toy.post("/v2/models/toy.denoise/infer", content=body, headers=named)
    document = response.json()
    assert set(document) == {"error"}
    assert response.headers["content-type"] == "application/json"
    return response.status_code, document["error"]


def test_numbers_may_be_flat_or_nested(toy: TestClient) -> None:
    flat = [i / 16 for i in range(16)]
    nested = np.array(flat).reshape(1, 1, 4, 4).tolist()

    for data in (flat, nested):
        answer = toy.post("/v2/models/toy.denoise/infer", content=request_of(data=data)).json()

        assert answer["outputs"] == [
            {"name": "x_hat", "datatype": "FP32", "shape": [1, 1, 4, 4], "data": [i / 32 for i in range(16)]}
        ]


def test_the_length_of_the_json_is_that_before_compression(toy: TestClient) -> None:
    x = np.arange(16, dtype="<f4").tobytes()
    head = {**tensor(None), "parameters": {"binary_data_size": 64}}
    del head["data"]
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()

    for coding, squeeze in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        headers = {LENGTH: str(len(text)), "Content-Encoding": coding}
        response = toy.post("/v2/models/toy.denoise/infer", content=squeeze(text + x), headers=headers)

        assert response.headers["content-type"] == "application/octet-stream"
        values = response.content[int(response.headers[LENGTH]) :]
        np.testing.assert_array_equal(np.frombuffer(values, "<f4"), np.arange(16) / 2)


@pytest.mark.parametrize(
    ("body", "headers", "status", "sentence"),
    [
        (b"", {}, 400, "the body is empty"),
        (b"{", {}, 400, "is not JSON"),
        (b"[]", {}, 400, "should be a valid dictionary"),
        (b'{"inputs": []}', {}, 400, "needs one input"),
        (request_of(name="y"), {}, 400, "no input 'y'; it has 'x'"),
        (request_of(datatype="INT8"), {}, 422, "'INT8'; send FP32"),
        (request_of(shape=[1, 1, 4]), {}, 422, "takes [-1, 1, 4, 4]"),
        (request_of(shape=[0, 1, 4, 4]), {}, 422, "takes [-1, 1, 4, 4]"),
        (request_of(shape=[-1, 1, 4, 4]), {}, 400, "inputs 0 shape 0: Input should be greater"),
        (request_of(shape=["1", 1, 4, 4]), {}, 400, "shape 0: Input should be a valid integer, found '1'"),
        (request_of(shape=[5, 1, 4, 4]), {}, 413, "80 pixels, the limit is 64"),
        (request_of(data=[0.5] * 15), {}, 422, "15 numbers; the shape [1, 1, 4, 4] needs 16"),
        (request_of(data=[[0.5] * 8, [0.5] * 7]), {}, 422, "uneven"),
        (request_of(data=["0.5"] * 16), {}, 422, "needs 16 numbers"),
        (request_of(data=[1e300] * 16), {}, 422, "too large for FP32"),
        (request_of(data=None), {}, 422, "needs 16 numbers"),
        (request_of(parameters={"shared_memory_region": "r"}), {}, 400, "shared memory is not supported"),
        (request_of(parameters={"binary_data_size": 64}), {}, 422, "0 bytes follow the JSON"),
        (request_of(), {LENGTH: "many"}, 400, "'many'"),
        (request_of(), {LENGTH: "99999"}, 400, "is 99999, but the body has"),
        (request_of() + b"1234", {LENGTH: str(len(request_of()))}, 400, "4 bytes follow the JSON"),
        (request_of(), {"Content-Encoding": "br"}, 415, "'br'; send gzip, deflate"),
        (request_of(), {"Content-Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(request_of())[:-9], {"Content-Encoding": "gzip"}, 400, "truncated"),
        (gzip.compress(b" " * 5000), {"Content-Encoding": "gzip"}, 413, "4097 bytes or more, the limit is 4096"),
        (b" " * 5000, {}, 413, "the limit is 4096"),
        (json.dumps({"inputs": [tensor([0.5] * 16)], "outputs": [{"name": "y"}]}).encode(), {}, 400, "there are x_hat"),
        (
            json.dumps({"inputs": [tensor([0.5] * 16)], "parameters": {"sequence_id": 1}}).encode(),
            {},
            400,
            "stateless",
        ),
        (
            json.dumps(
                {
                    "inputs": [tensor([0.5] * 16)],
                    "outputs": [{"name": "x_hat", "parameters": {"classification": 2}}],
                }
            ).encode(),
            {},
            400,
            "outputs 0 parameters classification: Extra",
        ),
        (
            json.dumps({"id": 7, "inputs": [tensor([0.5] * 16)]}).encode(),
            {},
            400,
            "id: Input should be a valid string, found 7",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_protocols_own_form(
    toy: TestClient, body: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    found, error = error_of(toy, body, **{name.replace("-", "_"): value for name, value in headers.items()})

    assert found == status
    assert sentence in error


def test_every_error_below_v2_has_that_form(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    toy = make_client(api_keys="a-key-of-sixteen-letters")
    key = {"X-API-Key": "a-key-of-sixteen-letters"}

    for method, path, headers, status in (
        ("GET", "/v2", {}, 401),
        ("GET", "/v2/nowhere", key, 404),
        ("PUT", "/v2", key, 405),
        ("GET", "/v2/models/toy.denoise?a=b", key, 422),
        ("GET", "/v2/models/toy.denoise/versions/x", key, 404),
        ("GET", "/v2/models/toy.denoise/versions/1", key, 200),
        ("POST", "/v2/repository/index", key, 200),
        ("GET", "/v2/health/live", {}, 200),
    ):
        response = toy.request(method, path, headers=headers)

        assert response.status_code == status, path
        assert status == 200 or set(response.json()) == {"error"}


def test_the_queue_is_the_same_as_for_all_other_endpoints(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    toy = make_client(max_queue_images=1)
    toy.app.service.admission.images = 1  # type: ignore[attr-defined]  # FastAPI's

    status, error = error_of(toy, request_of())

    assert (status, "max_queue_images" in error) == (503, True)


def test_a_rejected_version_is_in_the_index_with_its_reason(models_dir: Path, make_client: MakeClient) -> None:
    (publish_toy(models_dir) / "denoise.onnx").write_bytes(b"")
    publish_toy(models_dir, name="good")
    toy = make_client()

    everything = toy.post("/v2/repository/index").json()
    ready = toy.post("/v2/repository/index", json={"ready": True}).json()

    (broken,) = [entry for entry in everything if entry["state"] == "UNAVAILABLE"]
    assert (broken["name"], broken["version"]) == ("toy", "1")
    assert "denoise.onnx" in broken["reason"]
    assert {entry["state"] for entry in ready} == {"READY"}


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    """A service over a model that is told a level, and its directory."""
    models_dir = tmp_path_factory.mktemp("home") / "models"
    directory = publish_blur(models_dir)
    with service_process(models_dir) as process:
        yield process, directory


@pytest.mark.parametrize("order", [("x", "sigma"), ("sigma", "x")], ids=["in order", "the other way round"])
@pytest.mark.parametrize("is_binary", [(True, True), (False, False), (True, False), (False, True)])
def test_a_graph_with_two_inputs_gets_both(
    blur: tuple[Process, Path], order: tuple[str, str], is_binary: tuple[bool, bool]
) -> None:
    process, directory = blur
    rng = np.random.default_rng(3)
    values = {"x": rng.random((2, 1, 8, 12), np.float32), "sigma": np.array([5, 40], np.float32)}
    content = (directory / "denoise.onnx").read_bytes()
    session = Session(content, provider=CPU, threads=1)
    with triton.InferenceServerClient(f"127.0.0.1:{process.port}") as client:
        inputs = [asked(values[name], is_binary=way, name=name) for name, way in zip(order, is_binary, strict=True)]

        found = client.infer("blur.denoise", inputs).as_numpy("x_hat")

        np.testing.assert_array_equal(found, session.run(values["x"], values["sigma"])[0])
        with pytest.raises(InferenceServerException, match="needs 2 inputs"):
            client.infer("blur.denoise", [asked(values["x"], is_binary=True)])
        with pytest.raises(InferenceServerException, match="given twice"):
            client.infer("blur.denoise", [asked(values["x"], is_binary=True)] * 2)
        short = asked(values["sigma"][:1], is_binary=True, name="sigma")
        with pytest.raises(InferenceServerException, match="2, 1 rows"):
            client.infer("blur.denoise", [asked(values["x"], is_binary=True), short])


@pytest.mark.parametrize(
    ("model", "task", "shape", "numbers"),
    [
        ("digits", "decode", (3, 32), 3 * 28 * 28),
        ("photo", "denoise", (1, 3, 64, 96), 3 * 64 * 96),
        ("photo-x2", "enhance", (1, 1, 64, 96), 4 * 64 * 96),
        ("photo-compressed", "compress", (1, 1, 64, 96), 64 * 8 * 12),
        ("photo-compressed", "decompress", (1, 64, 8, 12), 64 * 96),
    ],
)
def test_an_answer_too_long_for_json_is_refused_before_the_graph_runs(
    monkeypatch: pytest.MonkeyPatch, model: str, task: Task, shape: tuple[int, ...], numbers: int
) -> None:
    manifest = manifest_of(newest(model))
    dims = [[1] if "rate" in spec.name or spec.name == "sigma" else shape for spec in manifest.tasks[task].inputs]
    sizes = [4 * math.prod(dim) for dim in dims]
    inputs = [
        {"name": spec.name, "shape": dim, "datatype": "FP32", "parameters": {"binary_data_size": size}}
        for spec, dim, size in zip(manifest.tasks[task].inputs, dims, sizes, strict=True)
    ]

    def read(limit: int, *, is_binary: bool) -> None:
        monkeypatch.setattr(open_inference, "MAX_JSON_NUMBERS", limit)
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": is_binary}}).encode()
        limits = InputLimits(max_pixels=10**6, max_images=8, max_frames=1)
        body, names = head + bytes(sum(sizes)), f"{model}.{task}"
        open_inference.Infer.read(
            body, len(head), model_name=names, manifest=manifest, task=task, limits=limits, coding=None
        )

    read(numbers, is_binary=False)
    read(numbers - 1, is_binary=True)
    with pytest.raises(TooManyPixels, match=f"has {numbers} numbers"):
        read(numbers - 1, is_binary=False)
