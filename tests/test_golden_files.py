"""Files that were compressed once are read for ever: the same symbols, by the service and by the reader in the docs."""

import json
import re
from collections.abc import Callable

import numpy as np
import pytest

from service.container import read_container, symbols_crc32, unpack_symbols
from service.manifest import MANIFEST_FILE, Compression, Manifest
from tests.conftest import DATA, ROOT

FILES = ("one.hg", "hundred.hg", "sizes.hg")
Reader = Callable[[bytes, int, list[tuple[int, tuple[int, ...]]]], list[list[int]]]
each_file = pytest.mark.parametrize("name", FILES)


def recorded(name: str) -> list[list[int]]:
    """Symbols, image by image."""
    symbols: list[list[int]] = json.loads((DATA / "symbols.json").read_text())[name]
    return symbols


def compression_of(model: str, version: int) -> Compression:
    path = ROOT / "models" / model / str(version) / MANIFEST_FILE
    found = Manifest.model_validate_json(path.read_bytes()).compression
    assert found is not None
    return found


@pytest.fixture(scope="session")
def reader_of_the_docs() -> Reader:
    page = (ROOT / "docs/compression.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    names: dict[str, Reader] = {}
    exec(found[1], names)
    return names["read_payload"]


@each_file
def test_a_golden_file_gives_its_symbols(name: str) -> None:
    file = read_container((DATA / name).read_bytes(), max_images=100)
    tables = compression_of(file.model, file.version).rates[file.rate].tables

    symbols = unpack_symbols(file.payload, file.count, tables)

    assert symbols.tolist() == recorded(name)
    assert symbols_crc32(symbols) == file.symbols_crc32


@each_file
def test_the_reader_in_the_docs_gives_the_same(name: str, reader_of_the_docs: Reader) -> None:
    file = read_container((DATA / name).read_bytes(), max_images=100)
    tables = compression_of(file.model, file.version).rates[file.rate].tables

    rows = reader_of_the_docs(file.payload, file.count, [(table.first, table.counts) for table in tables])

    assert np.array(rows).T.tolist() == recorded(name)


def test_the_layout_in_the_docs_is_that_of_the_files() -> None:
    content = (DATA / "hundred.hg").read_bytes()
    model, version = "digits-compressed", 1
    manifest = Manifest.model_validate_json((ROOT / "models" / model / str(version) / MANIFEST_FILE).read_bytes())

    assert content[:4] == b"\xf0HG\x01"
    assert content[12:20].hex() == manifest.tasks["decompress"].sha256[:16]
    assert content[20:28].hex() == compression_of(model, version).tables_sha256[:16]
    assert content[28:31] == bytes([2, 0, len(model)])
    assert content[31:50] == model.encode() + bytes([version, 100])
