"""NPY and JSON made to break a reader."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.errors import RequestError
from service.images.npy import read_npy_image
from service.tasks.latents import read_json_latents
from tests.service.files import from_npy, png, to_npy

X = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    encoded = header.encode("latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(encoded))
    return b"\x93NUMPY" + bytes(version) + length + encoded + body


def header(shape: str, dtype: str = "'<f4'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n"


@pytest.mark.parametrize("array", [X.astype(">f4"), np.asfortranarray(X)])
def test_byte_order_and_fortran_order_do_not_matter(client: TestClient, array: np.ndarray[Any, Any]) -> None:
    response = client.post("/denoise", content=to_npy(array))

    np.testing.assert_array_equal(from_npy(response.content), X * np.float32(0.5))


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_floats_of_other_sizes_are_taken(client: TestClient, dtype: str) -> None:
    response = client.post("/denoise", content=to_npy(X.astype(dtype)))

    assert from_npy(response.content) == pytest.approx(X * 0.5, abs=1e-3)  # float16 has 11 bits


def test_uint8_arrays_are_divided_by_255(client: TestClient) -> None:
    response = client.post("/denoise", content=to_npy(np.full((4, 4), 255, np.uint8)))

    assert from_npy(response.content).dtype == np.float32
    assert (from_npy(response.content) == 0.5).all()


HOSTILE = {
    "complex": to_npy(X.astype(np.complex64)),
    "one axis": to_npy(X.ravel()),
    "five axes": to_npy(X[None, None, None]),
    "channels last": to_npy(np.zeros((4, 4, 3), np.float32)),
    "no pixels": to_npy(np.zeros((0, 4), np.float32)),
    "NaN": to_npy(np.full((4, 4), np.nan, np.float32)),
    "infinity": to_npy(np.full((4, 4), np.inf, np.float32)),
    "0 to 255": to_npy(X * 255),
    "negative": to_npy(X - 1),
    "cut off": to_npy(X)[:-1],
    "too long": to_npy(X) + b"\0",
    "no header": b"\x93NUMPY\1\0",
    "half a header": to_npy(X)[:40],
    "version 3": npy(header("(4, 4)"), X.tobytes(), (3, 0)),
    "header bomb": npy("(" * 60_000),
    "nested header": npy("[" * 900),
    "huge header length": b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + b"{",
    "negative shape": npy(header("(-4, 4)"), X.tobytes()),
    "boolean shape": npy(header("(True, 4, 4)"), X.tobytes()),
    "code in the header": npy("__import__('os').system('true')\n"),
    "structured": npy(header("(4, 4)", "[('a', '<f4')]"), X.tobytes()),
    "wrong field names": npy("{'a': 1}\n"),
    "too many digits": npy(header("(" + "9" * 900 + ", 4)"), X.tobytes()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused_with_what_is_wrong(client: TestClient, name: str) -> None:
    response = client.post("/denoise", content=HOSTILE[name])

    assert response.status_code in {413, 422}, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize("shape", ["(1, 1, 100000, 100000)", "(1, 1, 1000, 4294967296)", "(65, 1, 40, 40)"])
def test_sizes_are_refused_before_memory_is_taken(client: TestClient, shape: str) -> None:
    response = client.post("/denoise", content=npy(header(shape)))

    assert response.status_code == 413
    assert response.json()["code"] == "too-many-pixels"


def test_too_many_images_in_an_array_are_refused(client: TestClient) -> None:
    response = client.post("/denoise", content=npy(header("(257, 1, 1, 1)")))

    assert response.json()["code"] == "too-many-images"


def test_a_pickle_is_never_run(client: TestClient, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    response = client.post("/denoise", content=to_npy(np.array([Trap()], dtype=object), allow_pickle=True))
    also = client.post("/denoise", content=b"\x93NUMPY" + pickle.dumps(Trap()))

    assert response.status_code == also.status_code == 422
    assert not trace.exists()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_after_the_npy_magic_is_a_clear_refusal(rubbish: bytes) -> None:
    with pytest.raises(RequestError):
        read_npy_image(b"\x93NUMPY" + rubbish, max_pixels=1000, max_images=10)


HOSTILE_JSON = {
    "not json": b"{",
    "nothing": b"null",
    "a number": b"1",
    "a list": b"[1,2,3,4]",
    "no latent": b"{}",
    "another key": b'{"z":[1,2,3,4]}',
    "both keys": b'{"latent":[1,2,3,4],"latents":[[1,2,3,4]]}',
    "too short": b'{"latent":[1,2,3]}',
    "too long": b'{"latent":[1,2,3,4,5]}',
    "a string": b'{"latent":[1,2,3,"4"]}',
    "a boolean": b'{"latent":[1,2,3,true]}',
    "null inside": b'{"latent":[1,2,3,null]}',
    "nested": b'{"latent":[1,2,3,[4]]}',
    "deep": b'{"latent":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"latent":[1,2,3,NaN]}',
    "infinity": b'{"latent":[1,2,3,1e999]}',
    "over float32": b'{"latent":[1,2,3,1e39]}',
    "huge integer": b'{"latent":[1,2,3,' + b"9" * 400 + b"]}",
    "empty list": b'{"latents":[]}',
    "of another model": b'{"model":"other","latent":[1,2,3,4]}',
    "of another version": b'{"version":2,"latent":[1,2,3,4]}',
    "of a model that is no name": b'{"model":["toy"],"latent":[1,2,3,4]}',
    "unknown member": b'{"latent":[1,2,3,4],"colour":1}',
    "ragged": b'{"latents":[[1,2,3,4],[1]]}',
    "not a list of lists": b'{"latents":[1,2,3,4]}',
    "too many": b'{"latents":[' + b",".join([b"[1,2,3,4]"] * 257) + b"]}",
    "lone surrogate": b'{"latent":"\\ud800"}',
    "lone surrogate as key": b'{"\\udfff":1}',
    "invalid utf-8": b'{"latent":"\xff\xfe"}',
    "utf-8 surrogate": b'{"latent":["\xed\xa0\x80"]}',
    "npy of text": to_npy(np.array(["a"])),
    "npy too short": to_npy(np.zeros(3, np.float32)),
    "npy with NaN": to_npy(np.full(4, np.nan, np.float32)),
    "npy of float64": to_npy(np.zeros(4)),
    "an image": png(np.zeros((4, 4), np.uint8)),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_latents_are_refused_with_what_is_wrong(client: TestClient, name: str) -> None:
    response = client.post("/decode", content=HOSTILE_JSON[name], headers={"Content-Type": "application/json"})

    assert response.status_code in {400, 413, 422}, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["detail"]) < 600


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_no_latent(rubbish: bytes) -> None:
    with pytest.raises(RequestError):
        read_json_latents(rubbish, dim=4, max_latents=3, model="toy", version=1)


def test_an_array_that_names_its_shape_twice_is_refused(client: TestClient) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 4, 4), 'shape': (24, 1, 4, 4), }"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    data = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(24 * 64)

    response = client.post("/denoise?model=toy", content=data)

    assert (response.status_code, response.json()["code"]) == (422, "invalid-array")
