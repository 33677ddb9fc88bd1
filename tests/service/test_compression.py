"""POST /compress and /decompress, over a model that writes the mean of each quadrant of a 4x4 image in quarters."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from service.api.app import create_app
from service.contract.container import Container, read_container, write_container
from service.contract.manifest import Manifest
from service.contract.range_coder import pack_symbols, symbols_crc32
from service.media_types import HOURGLASS_TYPE
from service.settings import Settings
from tests.service.conftest import MakeClient
from tests.service.files import from_npy, pixels_of, png, save, to_npy
from tests.service.hgfiles import compress, decompress, refused
from tests.service.toymodels import publish_codec, publish_toy

# 0, 128, 128 and 255 of 255: 0, 2, 2 and 4 quarters.
DIGIT = np.kron(np.array([[0, 128], [128, 255]], np.uint8), np.ones((2, 2), np.uint8))
WIDE = np.kron(np.array([[0, 255]], np.uint8), np.ones((4, 4), np.uint8))  # 8x4: in the middle of 4x4 once it is half


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    directory = tmp_path_factory.mktemp("models")
    publish_toy(directory)
    publish_codec(directory)
    options = Settings(models_dir=directory, watch_interval_s=3600, device="cpu", max_pixels=10_000, max_images=20)
    with TestClient(create_app(options), raise_server_exceptions=False) as client:
        yield client


def file_of(client: TestClient) -> Container:
    return read_container(compress(client, png(DIGIT)).content, max_images=20)


def test_an_image_becomes_a_small_file_and_an_image_again(client: TestClient) -> None:
    compressed = compress(client, png(DIGIT))
    image = decompress(client, compressed.content)

    assert compressed.status_code == 200
    assert compressed.headers["content-type"] == HOURGLASS_TYPE
    assert compressed.headers["x-model"] == image.headers["x-model"] == "codec/1"
    assert len(compressed.content) < 42  # 38 of header with so short a name
    assert pixels_of(image.content)[0, 0] == 0
    assert pixels_of(image.content)[3, 3] == 255
    assert pixels_of(image.content)[0, 3] == 128  # half, rounded


def test_a_higher_rate_is_closer_to_the_image_and_takes_more_bytes(client: TestClient) -> None:
    image = np.full((4, 4), 100, np.uint8)  # 1.57 quarters, 6.27 sixteenths

    coarse, fine = (compress(client, to_npy(np.stack([image] * 20)[:, None]), query=f"?rate={rate}") for rate in (0, 1))

    assert len(coarse.content) < len(fine.content)
    assert from_npy(decompress(client, coarse.content, "application/x-npy").content)[0, 0, 0, 0] == 0.5
    assert from_npy(decompress(client, fine.content, "application/x-npy").content)[0, 0, 0, 0] == 6 / 16


def test_a_rate_that_does_not_exist_is_refused_with_those_that_do(client: TestClient) -> None:
    detail = refused(compress(client, png(DIGIT), query="?rate=2"), 422, "invalid-parameter")

    assert "rate is 2; 'codec' has 0 (52 bytes per image, 20 dB), 1 (53 bytes" in detail


def test_several_files_share_one_header(client: TestClient) -> None:
    one = compress(client, png(DIGIT)).content
    several = compress(client, *[png(DIGIT)] * 10).content

    assert len(several) < len(one) + 10 * 2
    assert read_container(several, max_images=20).count == 10


def test_an_array_of_images_goes_into_one_file(client: TestClient) -> None:
    images = np.stack([DIGIT, 255 - DIGIT, DIGIT])[:, None] / np.float32(255)

    compressed = compress(client, to_npy(images.astype(np.float32)))
    back = from_npy(decompress(client, compressed.content, "application/x-npy").content)

    assert back.shape == (3, 1, 4, 4)
    assert np.array_equal(back, np.round(images * 4) / 4)


def test_several_images_come_as_a_zip_in_the_format_that_is_asked_for(client: TestClient) -> None:
    compressed = compress(client, png(DIGIT), png(255 - DIGIT)).content

    for accept, first in ((None, "000.png"), ("image/webp", "000.webp")):
        answer = decompress(client, compressed, accept)
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert answer.headers["content-type"] == "application/zip"
        assert archive.namelist()[0] == first
    with archive.open("001.webp") as file:
        assert pixels_of(file.read())[0, 0].min() > 250  # WebP is lossy


def test_an_image_gets_back_its_own_size(client: TestClient) -> None:
    compressed = compress(client, png(WIDE))
    image = decompress(client, compressed.content)

    assert compressed.headers["x-resize"] == "fit 8x4 -> 4x2 in 4x4"
    assert pixels_of(image.content).shape == (4, 8)


def test_images_of_several_sizes_keep_theirs(client: TestClient) -> None:
    compressed = compress(client, png(DIGIT), png(WIDE), png(DIGIT)).content

    archive = zipfile.ZipFile(io.BytesIO(decompress(client, compressed).content))

    assert [pixels_of(archive.read(name)).shape for name in archive.namelist()] == [(4, 4), (4, 8), (4, 4)]
    assert "differ in size" in refused(decompress(client, compressed, "application/x-npy"), 422, "invalid-array")


def test_colour_becomes_grey_for_a_grey_model(client: TestClient) -> None:
    compressed = compress(client, save(Image.new("RGB", (4, 4), (255, 255, 255)), "PNG"))

    assert pixels_of(decompress(client, compressed.content).content).tolist() == [[255] * 4] * 4


def test_a_broken_file_among_several_is_named(client: TestClient) -> None:
    answer = compress(client, png(DIGIT), b"no image", png(DIGIT))

    assert refused(answer, 415, "unsupported-media-type").startswith("file 1: ")
    assert answer.json()["file"] == 1


def test_more_images_than_allowed_are_refused(client: TestClient) -> None:
    rows = to_npy(np.zeros((12, 1, 4, 4), np.float32))

    assert "limit is 20" in refused(compress(client, rows, rows), 413, "too-many-images")


def test_nothing_but_an_hourglass_file_can_be_the_answer(client: TestClient) -> None:
    answer = client.post("/compress", content=png(DIGIT), headers={"Accept": "image/png"})

    assert HOURGLASS_TYPE in refused(answer, 406, "not-acceptable")


def test_a_model_without_the_task_says_so(client: TestClient) -> None:
    assert "toy" in refused(compress(client, png(DIGIT), query="?model=toy"), 422, "task-not-offered")


def test_what_is_no_hourglass_file_is_refused(client: TestClient) -> None:
    assert "starts with" in refused(decompress(client, png(DIGIT)), 415, "unsupported-media-type")
    answer = client.post("/decompress", content=b"x", headers={"Content-Type": "image/png"})
    assert HOURGLASS_TYPE in refused(answer, 415, "unsupported-media-type")


def test_a_file_of_a_model_that_is_not_here_names_it(client: TestClient) -> None:
    file = file_of(client)

    for changed, code in (
        (replace(file, model="gone"), "model-not-found"),
        (replace(file, version=7), "version-not-found"),
    ):
        refused(decompress(client, write_container(changed)), 404, code)
    refused(decompress(client, write_container(replace(file, model="toy"))), 422, "task-not-offered")


@pytest.mark.parametrize("part", ["decoder", "tables"])
def test_a_file_of_another_decoder_or_other_tables_is_never_guessed_at(client: TestClient, part: str) -> None:
    file = replace(file_of(client), **{part: b"another!"})  # type: ignore[arg-type]  # both are bytes

    detail = refused(decompress(client, write_container(file)), 409, "other-decoder")

    assert f"codec/1 with the {part} {b'another!'.hex()}" in detail


def test_an_old_file_is_read_by_the_version_that_made_it(models_dir: Path, make_client: MakeClient) -> None:
    publish_codec(models_dir)
    before = compress(make_client(), png(DIGIT)).content
    publish_codec(models_dir, version=2, first=-1)
    client = make_client()

    assert compress(client, png(DIGIT)).headers["x-model"] == "codec/2"
    answer = decompress(client, before)
    assert answer.headers["x-model"] == "codec/1"
    assert pixels_of(answer.content)[3, 3] == 255


@pytest.mark.parametrize(
    ("change", "status", "code", "message"),
    [
        (lambda f: replace(f, rate=9), 422, "broken-container", "rate 9"),
        (lambda f: replace(f, symbols_crc32=1), 422, "broken-container", "the symbols have CRC32"),
        (lambda f: replace(f, payload=bytes(99)), 422, "broken-container", "too many for 4 symbols"),
        (lambda f: replace(f, payload=b"\xff" * 8), 422, "broken-container", "payload is no|symbols have CRC32"),
        (lambda f: replace(f, count=20), 422, "broken-container", "the symbols have CRC32"),
        (lambda f: replace(f, count=21), 413, "too-many-images", "21 images"),
        (lambda f: replace(f, sizes=((2**31 - 1, 2**31 - 1),)), 413, "too-many-pixels", "limit is 10000"),
        (lambda f: replace(f, count=20, sizes=((100, 100),)), 413, "too-many-pixels", "200000 pixels"),
    ],
)
def test_a_file_with_the_right_checksum_can_still_lie(
    client: TestClient, change: Callable[[Container], Container], status: int, code: str, message: str
) -> None:
    answer = decompress(client, write_container(change(file_of(client))))

    detail = refused(answer, status, code)
    assert any(part in detail for part in message.split("|")), detail


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_the_answer_is_an_image_or_says_why_not(client: TestClient, data: st.DataObject) -> None:
    """Bytes of a real file are changed, cut or added, and half of the time the checksum is made right again."""
    content = bytearray(compress(client, png(DIGIT)).content)
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[at] = byte
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=20))
    if data.draw(st.booleans()) and len(content) > 8:
        content[4:8] = zlib.crc32(content[8:]).to_bytes(4, "little")

    answer = decompress(client, bytes(content))

    assert answer.status_code in {200, 400, 404, 409, 413, 415, 422}, answer.text
    assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"


def test_symbols_at_the_ends_of_their_tables_make_an_image(client: TestClient) -> None:
    compression = Manifest.model_validate(client.get("/models/codec").json()).compression
    assert compression is not None
    symbols = np.full((1, 4), 4, np.int32)
    payload = pack_symbols(symbols, compression.rates[0].tables)

    file = replace(file_of(client), payload=payload, symbols_crc32=symbols_crc32(symbols))

    assert pixels_of(decompress(client, write_container(file)).content).tolist() == [[255] * 4] * 4


def test_the_queries_refuse_what_they_do_not_know(client: TestClient) -> None:
    refused(client.post("/compress?quality=3", content=png(DIGIT)), 422, "invalid-parameter")
    refused(client.post("/decompress?model=codec", content=b"x"), 422, "invalid-parameter")


def test_the_graphs_are_there_for_clients_of_v2(client: TestClient) -> None:
    inputs = [
        {"name": "x", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [1.0] * 16},
        {"name": "rate", "shape": [1], "datatype": "FP32", "data": [1.0]},
    ]

    answer = client.post("/v2/models/codec.compress/infer", json={"inputs": inputs})

    assert answer.json()["outputs"][0]["data"] == [16.0] * 4
