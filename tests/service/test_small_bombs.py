"""Requests that are small as bytes and large as work: refused before the work is done."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.errors import reason_of, shown
from tests.service.conftest import MakeClient
from tests.service.slowmodel import flat_png
from tests.service.toymodels import publish_toy

Peak = Callable[[], int]
MIB = 2**20
JSON = {"Content-Type": "application/json"}
LISTS = b"[" + b"[]," * 300_000 + b"[]]"
STRINGS = b"[" + b'"",' * 300_000 + b'""]'
INFER = "/v2/models/toy.denoise/infer"


def infer_body(data: bytes) -> bytes:
    return b'{"inputs":[{"name":"x","shape":[1,1,4,4],"datatype":"FP32","data":' + data + b"}]}"


@pytest.fixture
def peak_bytes() -> Iterator[Peak]:
    """How much Python and NumPy held at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


LONG = b'"' + b"a" * 100_000 + b'"'


@pytest.mark.parametrize(
    "data",
    [
        b"[" + LONG + b",0" * 10_000 + b"]",
        b"[" + b"0," * 10_000 + LONG + b"]",
        b"[[" + LONG + b",0],[0,0]]",
        b"[[" + b"0," * 10_000 + LONG + b"]]",
        b"[null" + b",0" * 15 + b"]",
        b"[true" + b",0" * 15 + b"]",
        b"[{}" + b",0" * 15 + b"]",
        b"[[]" + b",0" * 15 + b"]",
        LONG,
        b'{"a":1}',
    ],
)
def test_anything_but_numbers_among_the_data_is_a_422_before_it_is_converted(
    client: TestClient, peak_bytes: Peak, data: bytes
) -> None:
    response = client.post(INFER, content=infer_body(data), headers=JSON)

    assert response.status_code == 422
    assert "needs 16 numbers" in response.json()["error"] or "uneven" in response.json()["error"]
    assert len(response.content) < 1000
    assert peak_bytes() < 50 * MIB


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/repository/index", LISTS),
        ("/v2/repository/models/toy.denoise/load", b'{"parameters":' + LISTS + b"}"),
        ("/generate?model=toy", b'{"label":' + LISTS + b"}"),
        ("/decode?model=toy", LISTS),
        ("/decode?model=toy", b'{"latents":' + LISTS + b"}"),
        ("/decode?model=toy", STRINGS),
        ("/interpolate?model=toy", b'{"latents":' + LISTS + b"}"),
        (INFER, infer_body(LISTS)),
        (INFER, infer_body(STRINGS)),
        (INFER, b'{"inputs":' + LISTS + b"}"),
        ("/collections/small/search", b'{"latents":' + LISTS + b"}"),
    ],
)
def test_json_with_more_parts_than_anyone_has_to_say_is_refused_unparsed(
    client: TestClient, peak_bytes: Peak, path: str, body: bytes
) -> None:
    client.put("/collections/small/items/a?model=toy", json={"latent": [1, 2, 3, 4]})

    response = client.post(path, content=body, headers=JSON)

    assert response.status_code in {400, 413, 422}, response.text
    assert len(response.content) < 1000
    assert peak_bytes() < 30 * MIB  # each of these would be over 50 as Python objects


@pytest.mark.parametrize("path", ["/decode?model=toy", INFER, "/collections/small/search", "/interpolate?model=toy"])
@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
def test_json_has_a_limit_of_its_own(make_client: MakeClient, models_dir: Path, path: str, content_type: str) -> None:
    publish_toy(models_dir)
    client = make_client(max_json_bytes=2048)
    client.put("/collections/small/items/a?model=toy", json={"latent": [1, 2, 3, 4]})
    body = json.dumps({"latents": [[0.5] * 4] * 200}).encode()

    response = client.post(path, content=body, headers={"Content-Type": content_type})

    assert response.status_code == (415 if "search" in path and "octet" in content_type else 413), response.text
    assert "max_json_bytes" in response.text or response.status_code == 415


def test_a_query_that_is_wrong_in_thousands_of_places_gets_a_short_answer(client: TestClient) -> None:
    response = client.post("/denoise?" + "&".join(f"a{i}=1" for i in range(3000)), content=b"x")

    assert response.status_code == 422
    assert len(response.content) < 2000


@pytest.mark.parametrize(
    "value",
    [
        ["a" * 1000] * 10**6,
        {"a" * 10**6: [1] * 10**6},
        {str(i): i for i in range(10**5)},
        10**6000,
        "b" * 10**6,
        [[[[10**5000] * 10]]],
    ],
    ids=range(6),
)
def test_what_is_shown_of_a_value_is_short(value: object, peak_bytes: Peak) -> None:
    text = shown(value)

    assert len(text) <= 80
    assert peak_bytes() < MIB / 2


@pytest.mark.parametrize(
    "value", [[], {}, (), (1,), [1, "b", None], {"a": [1, {"b": ()}]}, -5, 1.5, "x\n", b"\0", True]
)
def test_what_is_short_is_shown_as_python_writes_it(value: object) -> None:
    assert shown(value) == repr(value)


def test_reasons_of_libraries_name_no_addresses() -> None:
    error = ValueError(f"cannot identify {object()!r}\nand more")

    assert reason_of(error) == "cannot identify <object object>"


def test_a_file_that_no_decoder_takes_is_refused_without_an_address(client: TestClient) -> None:
    response = client.post("/denoise?model=toy", content=b"BM" + b"\0" * 16 + b"\4\0\0\0" * 20)

    assert response.status_code == 422
    assert " at 0x" not in response.text


def test_no_memory_is_a_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("service.tasks.image_input.read_image", fail)

    response = client.post("/denoise?model=toy", content=flat_png(4))

    assert (response.status_code, response.json()["code"]) == (503, "queue-full")
    assert "retry-after" in response.headers


def test_a_query_of_thousands_of_mistakes_gets_a_short_answer(client: TestClient) -> None:
    query = "&".join(f"a{i}=1" for i in range(3000))

    response = client.post(f"/denoise?{query}", content=b"x")

    assert response.status_code == 422
    assert len(response.content) < 1024
    assert "and 2997 more" in response.json()["detail"]


def test_an_error_of_a_library_is_told_without_addresses_of_objects() -> None:
    error = OSError("cannot identify image file <_io.BytesIO object at 0x7f3b2c1d4e50>\nand more")

    assert reason_of(error) == "cannot identify image file <_io.BytesIO object>"
