"""The file format, without a service: what is written is read again, and nothing else is."""

import contextlib
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.container import Container, read_container, write_container
from service.contract.range_coder import Symbols, pack_symbols, symbols_crc32, to_symbols, unpack_symbols
from service.contract.tables import TABLE_TOTAL, SymbolTable
from service.errors import BrokenContainer, TooManyImages, UnsupportedMediaType

PLANES = Container("photos", 1, b"decoder!", b"tables!!", 2, 3, ((5, 7),), 0x12345678, b"payload", 3)
FILE = Container("digits-compressed", 1, b"decoder!", b"tables!!", 2, 3, (), 0x12345678, b"\x01\x02\x03payload")


def table_of(*weights: int, first: int = 0) -> SymbolTable:
    """Counts in about these proportions."""
    total = sum(weights)
    counts = [max(1, weight * TABLE_TOTAL // total) for weight in weights]
    counts[counts.index(max(counts))] += TABLE_TOTAL - sum(counts)
    return SymbolTable(first=first, counts=tuple(counts))


def reference(payload: bytes, count: int, tables: list[SymbolTable]) -> list[list[int]]:
    """The decoder as docs/compression.md tells it, in whole numbers of Python; rows are latents."""
    data = iter(payload)

    def word() -> int:
        return int.from_bytes(bytes(next(data, 0) for _ in range(4)), "big")

    low, size, point = 0, 2**64 - 1, word() << 32 | word()
    rows = []
    for table in tables:
        n, row = len(table.counts), []
        starts = [sum(table.counts[:i]) * (2**24 - n) // 2**16 + i for i in range(n)] + [2**24]
        for _ in range(count if n > 1 else 0):
            step = size >> 24
            at = (point - low) % 2**64 // step
            i = max(i for i in range(n) if starts[i] <= at)
            low, size = (low + step * starts[i]) % 2**64, step * (starts[i + 1] - starts[i])
            if size < 2**32:
                low, size, point = low << 32 & 2**64 - 1, size << 32, (point << 32 | word()) & 2**64 - 1
            row.append(table.first + i)
        rows.append(row if n > 1 else [table.first] * count)
    return rows


tables = st.builds(
    lambda weights, first: table_of(*weights, first=first),
    st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any),
    st.integers(-300, 300),
)


@st.composite
def written(draw: st.DrawFn) -> tuple[Symbols, list[SymbolTable]]:
    chosen = draw(st.lists(tables, min_size=1, max_size=12))
    count = draw(st.integers(1, 12))
    columns = [
        draw(st.lists(st.integers(t.first, t.first + len(t.counts) - 1), min_size=count, max_size=count))
        for t in chosen
    ]
    return np.array(columns, np.int32).T, chosen


@settings(max_examples=200, deadline=None)
@given(written())
def test_symbols_come_back_and_a_decoder_of_whole_numbers_reads_the_same(
    case: tuple[Symbols, list[SymbolTable]],
) -> None:
    symbols, of = case

    payload = pack_symbols(symbols, of)

    assert np.array_equal(unpack_symbols(payload, len(symbols), of), symbols)
    assert reference(payload, len(symbols), of) == symbols.T.tolist()


def test_a_payload_has_not_a_byte_more_than_its_symbols_need() -> None:
    rng = np.random.default_rng(0)
    table = table_of(1, 5, 20, 5, 1)
    probability = np.array(table.counts) / TABLE_TOTAL
    for count in range(1, 60):
        symbols = rng.choice(5, (count, 1), p=probability).astype(np.int32)
        ideal_bytes = -np.log2(probability)[symbols[:, 0]].sum() / 8

        assert len(pack_symbols(symbols, [table])) < ideal_bytes + 1.0


def test_a_symbol_of_certainty_costs_nothing() -> None:
    certain = table_of(1, first=-7)

    assert pack_symbols(np.full((100, 1), -7, np.int32), [certain]) == b""
    assert unpack_symbols(b"", 100, [certain]).tolist() == [[-7]] * 100


def test_numbers_become_the_nearest_symbols_of_their_tables() -> None:
    y = np.array([[-9.0, 0.4], [0.6, 99.0]], np.float32)

    assert to_symbols(y, [table_of(1, 1, first=-1), table_of(1, 2, 1)]).tolist() == [[-1, 0], [0, 2]]


@pytest.mark.parametrize("sizes", [(), ((28, 28),), ((1, 2), (300, 4), (70_000, 1))])
def test_a_file_says_what_was_written(sizes: tuple[tuple[int, int], ...]) -> None:
    file = replace(FILE, sizes=sizes, version=300)
    of_planes = replace(file, sizes=sizes or ((1, 1),), planes=1)

    assert read_container(write_container(file), max_images=3) == file
    assert read_container(write_container(of_planes), max_images=3) == of_planes


def test_a_header_has_fifty_bytes() -> None:
    assert len(write_container(FILE)) == 50 + len(FILE.payload)


def test_every_flipped_bit_is_noticed() -> None:
    content = write_container(FILE)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8

        with pytest.raises((BrokenContainer, UnsupportedMediaType)):
            read_container(bytes(damaged), max_images=256)


def test_every_truncated_file_is_noticed() -> None:
    content = write_container(FILE)
    for length in range(len(content)):
        with pytest.raises((BrokenContainer, UnsupportedMediaType)):
            read_container(content[:length], max_images=256)


def forged(content: bytes) -> bytes:
    """With the right CRC32 for whatever it says."""
    return content[:4] + zlib.crc32(content[8:]).to_bytes(4, "little") + content[8:]


def with_numbers(*numbers: bytes, kind: int = 0) -> bytes:
    content = write_container(FILE)
    return forged(content[:29] + bytes([kind]) + content[30 : 31 + len(FILE.model)] + b"".join(numbers))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_numbers(b"\x01", b"\x00"), "0 images"),
        (with_numbers(b"\x00", b"\x01"), "version 0"),
        (with_numbers(b"\x01", b"\x01", kind=3), "in form 3"),
        (with_numbers(b"\x01", b"\x01", b"\x00\x05", kind=1), "without pixels"),
        (with_numbers(b"\x01", b"\x05", b"\x01\x01", kind=2), "after the end"),
        (with_numbers(b"\x01", b"\xff\xff\xff\xff\x7f"), "2\\*\\*31"),
        (with_numbers(b"\x01", b"\xff\xff\xff\xff\xff\xff"), "2\\*\\*31"),
        (with_numbers(b"\x01"), "after the end"),
        (forged(write_container(FILE)[:30] + b"\x00\x01\x01"), "not a valid name"),
        (forged(write_container(FILE)[:30] + b"\x01\xe9\x01\x01"), "not a valid name"),
        (forged(write_container(FILE)[:3] + b"\x03" + write_container(FILE)[4:]), "format version 3"),
        (forged(write_container(FILE)[:3] + b"\x02" + write_container(FILE)[4:]), "100 planes; 1 and 3 exist"),
        (forged(write_container(PLANES)[:31] + b"\x02" + write_container(PLANES)[32:]), "2 planes"),
        (forged(write_container(PLANES)[:29] + b"\x00" + write_container(PLANES)[30:]), "forms 1 to 2 exist"),
    ],
)
def test_a_header_that_says_nonsense_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BrokenContainer, match=message):
        read_container(content, max_images=256)


def test_more_images_than_allowed_are_refused_before_anything_is_made_of_them() -> None:
    huge = with_numbers(b"\x01", b"\xff\xff\xff\xff\x07")  # 2**31 - 1 images

    with pytest.raises(TooManyImages, match="2147483647 images"):
        read_container(huge, max_images=256)


def test_a_payload_longer_than_its_symbols_can_be_is_refused() -> None:
    with pytest.raises(BrokenContainer, match="too many for 2 symbols"):
        unpack_symbols(bytes(100), 2, [table_of(1, 1)])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_bytes_of_nobody_make_symbols_or_a_clear_error(payload: bytes) -> None:
    of = [table_of(1, 7, 2), table_of(1), table_of(*range(30))]
    try:
        symbols = unpack_symbols(payload, 9, of)
    except BrokenContainer:
        return

    assert symbols.shape == (9, 3)
    assert (symbols >= 0).all()
    assert symbols_crc32(symbols) == zlib.crc32(symbols.astype("<i4").tobytes())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_a_header_of_nobody_is_read_or_refused(noise: bytes, at: int) -> None:
    content = write_container(FILE)
    with contextlib.suppress(BrokenContainer, UnsupportedMediaType, TooManyImages):
        read_container(forged(content[:at] + noise + content[at + len(noise) :]), max_images=256)
