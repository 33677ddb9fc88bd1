"""POST /compress and /decompress, over a model that writes every pixel of a plane in 64ths."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from httpx2 import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from service.api.app import create_app
from service.contract.colour import from_planes, to_planes
from service.contract.container import Container, read_container, write_container
from service.contract.plane_coder import pack_grids
from service.contract.range_coder import symbols_crc32
from service.contract.tables import CHANNELS
from service.images import tiles
from service.media_types import HOURGLASS_TYPE
from service.settings import Settings
from tests.service.conftest import MakeClient
from tests.service.files import from_npy, pixels_of, png, save, to_npy
from tests.service.hgfiles import compress, decompress, refused
from tests.service.planemodels import GRID, grid_tables, publish_plane_codec
from tests.service.toymodels import publish_codec

LIMIT = 60_000  # pixels


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    directory = tmp_path_factory.mktemp("models")
    publish_plane_codec(directory, default_for=["compress", "decompress"])
    publish_codec(directory)
    options = Settings(models_dir=directory, watch_interval_s=3600, device="cpu", max_pixels=LIMIT, max_images=20)
    with TestClient(create_app(options), raise_server_exceptions=False) as client:
        yield client


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, with colour: (H, W, 3)."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    red, green, blue = 128 + 60 * np.sin(rows / 15), 128 + 60 * np.cos(columns / 19), 100 + 40 * np.sin(columns / 30)
    values: np.ndarray = np.rint(np.stack([red, green, blue], -1)).astype(np.uint8)
    return values


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("size", [(64, 48), (61, 37), (1, 1), (3, 200)])
def test_a_photograph_comes_back_in_its_size_and_colours(client: TestClient, size: tuple[int, int]) -> None:
    image = photo(*size)

    compressed = compress(client, png(image))
    back = decompress(client, compressed.content)

    assert compressed.headers["content-type"] == HOURGLASS_TYPE
    assert compressed.headers["x-model"] == back.headers["x-model"] == "planes/1"
    assert "x-resize" not in compressed.headers
    assert distance(pixels_of(back.content), image) <= 12  # half of 1/64 of each plane, and chroma of half the size


def test_grey_stays_grey_and_has_no_chroma(client: TestClient) -> None:
    grey = photo(64, 48)[..., 0]

    compressed = compress(client, png(grey)).content

    assert read_container(compressed, max_images=1).planes == 1
    assert len(compressed) < len(compress(client, png(photo(64, 48))).content)
    assert distance(pixels_of(decompress(client, compressed).content), grey) <= 2


def test_a_higher_rate_is_closer_to_the_image_and_takes_more_bytes(client: TestClient) -> None:
    grey = photo(64, 48)[..., 0]

    coarse, fine = (compress(client, png(grey), query=f"?rate={rate}").content for rate in (0, 1))

    assert len(coarse) < len(fine)
    errors = [distance(pixels_of(decompress(client, file).content), grey) for file in (coarse, fine)]
    assert errors[0] > errors[1]
    detail = refused(compress(client, png(grey), query="?rate=2"), 422, "invalid-parameter")
    assert "'planes' has 0 (1,000 bytes per image, 20 dB), 1 (2,000 bytes" in detail


def test_images_of_any_sizes_share_a_file_and_grey_beside_colour_becomes_colour(client: TestClient) -> None:
    images = [photo(40, 30), photo(9, 50)[..., 0], photo(16, 16)]

    compressed = compress(client, *map(png, images)).content
    answer = decompress(client, compressed)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    back = [pixels_of(archive.read(name)) for name in archive.namelist()]

    assert answer.headers["content-type"] == "application/zip"
    assert read_container(compressed, max_images=3).sizes == ((40, 30), (9, 50), (16, 16))
    assert [values.shape for values in back] == [(40, 30, 3), (9, 50, 3), (16, 16, 3)]
    assert distance(back[1], np.repeat(images[1][..., None], 3, 2)) <= 2
    assert "differ in size" in refused(decompress(client, compressed, "application/x-npy"), 422, "invalid-array")


def test_an_array_of_images_comes_back_as_one(client: TestClient) -> None:
    images = np.stack([photo(20, 30), photo(20, 30)[::-1]]).transpose(0, 3, 1, 2) / np.float32(255)

    compressed = compress(client, to_npy(images.astype(np.float32))).content
    back = from_npy(decompress(client, compressed, "application/x-npy").content)
    one = from_npy(decompress(client, compress(client, png(photo(20, 30))).content, "application/x-npy").content)

    assert back.shape == (2, 3, 20, 30)
    assert np.abs(back - images).max() < 0.05
    assert back.min() >= 0
    assert back.max() <= 1
    assert np.allclose(back[0], one, atol=1 / 255)


def test_transparency_is_lost_and_orientation_applied(client: TestClient) -> None:
    rgba = np.dstack([photo(24, 16), np.full((24, 16), 9, np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    turned = io.BytesIO()
    Image.fromarray(photo(24, 16)).save(turned, "PNG", exif=exif)

    opaque = pixels_of(decompress(client, compress(client, png(rgba)).content).content)
    upright = pixels_of(decompress(client, compress(client, turned.getvalue()).content).content)

    assert opaque.shape == (24, 16, 3)
    assert distance(upright, np.rot90(photo(24, 16), -1)) <= 12


def test_tiles_make_the_same_file_and_the_same_image(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    image = png(photo(150, 250))
    whole = compress(client, image).content
    monkeypatch.setattr(tiles, "UNTILED_PIXELS", 0)
    monkeypatch.setattr(tiles, "TILE", 64)

    assert compress(client, image).content == whole
    in_tiles = decompress(client, whole).content
    monkeypatch.undo()
    assert in_tiles == decompress(client, whole).content


def test_images_that_are_too_large_together_are_refused(client: TestClient) -> None:
    image = png(photo(150, 250)[..., 0])

    detail = refused(compress(client, image, image), 413, "too-many-pixels")

    assert f"75000 pixels together, the limit is {LIMIT}" in detail
    assert compress(client, image).status_code == 200


def test_a_broken_file_among_several_is_named(client: TestClient) -> None:
    answer = compress(client, png(photo(9, 9)), b"no image")

    assert refused(answer, 415, "unsupported-media-type").startswith("file 1: ")
    assert answer.json()["file"] == 1


def test_nothing_but_an_hourglass_file_can_be_the_answer(client: TestClient) -> None:
    answer = client.post("/compress", content=png(photo(9, 9)), headers={"Accept": "image/png"})

    assert HOURGLASS_TYPE in refused(answer, 406, "not-acceptable")


def test_the_answer_has_the_format_that_is_asked_for(client: TestClient) -> None:
    file = compress(client, png(photo(30, 40))).content

    jpeg = decompress(client, file, "image/jpeg")
    low = client.post("/decompress?quality=5", content=file, headers={"Accept": "image/jpeg"})

    assert jpeg.headers["content-type"] == "image/jpeg"
    assert len(low.content) < len(jpeg.content)


def file_of(client: TestClient, height: int = 24, width: int = 17) -> Container:
    return read_container(compress(client, png(photo(height, width))).content, max_images=20)


@pytest.mark.parametrize(
    ("change", "status", "code", "message"),
    [
        (lambda f: replace(f, decoder=b"another!"), 409, "other-decoder", "planes/1 with the decoder"),
        (lambda f: replace(f, tables=b"another!"), 409, "other-decoder", "planes/1 with the tables"),
        (lambda f: replace(f, planes=None), 422, "broken-container", "another version of the format"),
        (lambda f: replace(f, planes=1), 422, "broken-container", "the symbols have CRC32"),
        (lambda f: replace(f, rate=2), 422, "broken-container", "rate 2"),
        (lambda f: replace(f, sizes=((24, 9),)), 422, "broken-container", "the symbols have CRC32"),
        (lambda f: replace(f, symbols_crc32=1), 422, "broken-container", "the symbols have CRC32"),
        (lambda f: replace(f, payload=bytes(200_000)), 422, "broken-container", "too many for"),
        (lambda f: replace(f, payload=b"\xff" * 400), 422, "broken-container", "payload|symbols have CRC32"),
        (lambda f: replace(f, sizes=((2**31 - 1, 2**31 - 1),)), 413, "too-many-pixels", f"limit is {LIMIT}"),
        (lambda f: replace(f, count=20, sizes=((100, 100),)), 413, "too-many-pixels", "216320 pixels"),
        (lambda f: replace(f, count=21), 413, "too-many-images", "21 images"),
    ],
)
def test_a_file_with_the_right_checksum_can_still_lie(
    client: TestClient, change: Callable[[Container], Container], status: int, code: str, message: str
) -> None:
    answer = decompress(client, write_container(change(file_of(client))))

    detail = refused(answer, status, code)
    assert any(part in detail for part in message.split("|")), detail


def test_a_file_of_rows_is_not_read_by_a_model_of_planes_nor_the_other_way_round(client: TestClient) -> None:
    rows = read_container(compress(client, png(photo(4, 4)), query="?model=codec").content, max_images=1)

    assert rows.planes is None
    refused(decompress(client, write_container(replace(rows, model="planes"))), 409, "other-decoder")
    refused(decompress(client, write_container(replace(file_of(client), model="codec"))), 409, "other-decoder")


def test_symbols_at_the_ends_of_their_tables_make_an_image(client: TestClient) -> None:
    symbols = np.full((CHANNELS, 1, 1), 33, np.int32)
    payload = pack_grids([(symbols, grid_tables())], GRID)
    file = replace(file_of(client), planes=1, sizes=((8, 8),), payload=payload, symbols_crc32=symbols_crc32(symbols))

    assert pixels_of(decompress(client, write_container(file)).content).tolist() == [[255] * 8] * 8


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_the_answer_is_an_image_or_says_why_not(client: TestClient, data: st.DataObject) -> None:
    """Bytes of a real file are changed, cut or added, and half of the time the checksum is made right again."""
    content = bytearray(compress(client, png(photo(10, 12))).content)
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[at] = byte
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=20))
    if data.draw(st.booleans()) and len(content) > 8:
        content[4:8] = zlib.crc32(content[8:]).to_bytes(4, "little")

    answer = decompress(client, bytes(content))

    assert answer.status_code in {200, 400, 404, 409, 413, 415, 422}, answer.text
    assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"


def test_the_graphs_are_there_for_clients_of_v2(client: TestClient) -> None:
    def infer(rows: int, columns: int) -> Response:
        shape = [1, 64, rows, columns]
        inputs = [
            {"name": "symbols", "shape": shape, "datatype": "FP32", "data": [0.0] * (64 * rows * columns)},
            {"name": "rate", "shape": [1], "datatype": "FP32", "data": [1.0]},
        ]
        return client.post("/v2/models/planes.decompress/infer", json={"inputs": inputs})

    output = infer(2, 3).json()["outputs"][0]

    assert output["shape"] == [1, 1, 16, 24]
    assert set(output["data"]) == {0.5}
    assert (infer(25, 39).status_code, "62400 pixels" in infer(25, 39).text) == (413, True)


def test_a_model_whose_golden_file_is_read_differently_never_goes_live(
    models_dir: Path, make_client: MakeClient
) -> None:
    manifest = publish_plane_codec(models_dir) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"golden":"', '"golden":"5a', 1))

    (entry,) = make_client().get("/health/ready").json()["rejected"]

    assert "golden file" in entry["reason"]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 5), (16, 12)])
def test_planes_put_together_again_are_the_image_where_its_colour_is_even(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    grey = rng.random(size).astype(np.float32) / 2 + 0.25
    x = np.stack([grey + 0.1, grey, grey - 0.1]).astype(np.float32)

    planes = to_planes(x)

    assert [plane.shape for plane in planes] == [size, *[(-(-size[0] // 2), -(-size[1] // 2))] * 2]
    assert np.abs(from_planes(planes) - x).max() < 1e-5
    assert np.array_equal(from_planes(to_planes(x[:1])), x[:1])


def test_a_photo_can_be_saved_as_jpeg_and_compressed_again(client: TestClient) -> None:
    jpeg = save(Image.fromarray(photo(33, 47)), "JPEG")

    assert pixels_of(decompress(client, compress(client, jpeg).content).content).shape == (33, 47, 3)
