"""Files that were compressed once are read for ever: the same symbols, by the service and by the reader in the docs."""

import json
import re
from typing import Any

import numpy as np
import pytest

from service.contract.colour import sizes_of_planes
from service.contract.container import Container, read_container
from service.contract.plane_coder import unpack_grids
from service.contract.range_coder import symbols_crc32, unpack_symbols
from service.contract.tables import Compression, Tables
from service.contract.version import manifest_of
from tests.conftest import DATA, ROOT

FILES = ("one.hg", "hundred.hg", "sizes.hg")
each_file = pytest.mark.parametrize("name", FILES)


def recorded(name: str) -> list[list[int]]:
    """Symbols, image by image."""
    symbols: list[list[int]] = json.loads((DATA / "symbols.json").read_text())[name]
    return symbols


def compression_of(model: str, version: int) -> Compression:
    found = manifest_of(ROOT / "models" / model / str(version)).compression
    assert found is not None
    return found


@pytest.fixture(scope="session")
def code_of_the_docs() -> dict[str, Any]:
    page = (ROOT / "docs/compression.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    return names


@each_file
def test_a_golden_file_gives_its_symbols(name: str) -> None:
    file = read_container((DATA / name).read_bytes(), max_images=100)
    tables = compression_of(file.model, file.version).rates[file.rate].tables

    symbols = unpack_symbols(file.payload, file.count, tables)

    assert symbols.tolist() == recorded(name)
    assert symbols_crc32(symbols) == file.symbols_crc32


@each_file
def test_the_reader_in_the_docs_gives_the_same(name: str, code_of_the_docs: dict[str, Any]) -> None:
    file = read_container((DATA / name).read_bytes(), max_images=100)
    tables = compression_of(file.model, file.version).rates[file.rate].tables

    rows = code_of_the_docs["read_payload"](file.payload, file.count, [(table.first, table.counts) for table in tables])

    assert np.array(rows).T.tolist() == recorded(name)


@pytest.fixture(scope="session")
def photo() -> tuple[Container, list[tuple[int, int]], list[Tables], Compression]:
    """A file of a picture in colour and a grey one, the grids of their planes, and the tables of those."""
    file = read_container((DATA / "photo.hg").read_bytes(), max_images=2)
    compression = compression_of(file.model, file.version)
    point = compression.rates[file.rate]
    shapes = [(-(-h // 8), -(-w // 8)) for size in file.sizes for h, w in sizes_of_planes(*size, 3)]
    return file, shapes, [point.tables, point.chroma, point.chroma] * 2, compression


def test_a_golden_photograph_gives_its_symbols(
    photo: tuple[Container, list[tuple[int, int]], list[Tables], Compression],
) -> None:
    file, shapes, tables, compression = photo
    assert compression.grid is not None

    planes = unpack_grids(file.payload, shapes, tables, compression.grid)

    assert (file.planes, file.sizes) == (3, ((37, 29), (12, 9)))
    assert [plane.reshape(-1).tolist() for plane in planes] == recorded("photo.hg")
    assert symbols_crc32(*planes) == file.symbols_crc32


def test_the_reader_in_the_docs_gives_the_same_of_a_photograph(
    photo: tuple[Container, list[tuple[int, int]], list[Tables], Compression], code_of_the_docs: dict[str, Any]
) -> None:
    file, shapes, tables, compression = photo
    assert compression.grid is not None
    plain = [[(table.first, table.counts) for table in of_plane] for of_plane in tables]

    planes = code_of_the_docs["read_planes"](file.payload, shapes, plain, compression.grid.context_from)

    assert [np.array(plane).reshape(-1).tolist() for plane in planes] == recorded("photo.hg")


def test_the_layout_in_the_docs_is_that_of_the_files() -> None:
    content = (DATA / "hundred.hg").read_bytes()
    model, version = "digits-compressed", 1
    manifest = manifest_of(ROOT / "models" / model / str(version))

    assert content[:4] == b"\xf0HG\x01"
    assert content[12:20].hex() == manifest.tasks["decompress"].sha256[:16]
    assert content[20:28].hex() == compression_of(model, version).tables_sha256[:16]
    assert content[28:31] == bytes([2, 0, len(model)])
    assert content[31:50] == model.encode() + bytes([version, 100])
