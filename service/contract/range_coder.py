"""Rows of symbols as bytes and back: a range coder with a table for every latent. Integers only."""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from service.contract.tables import TABLE_TOTAL, SymbolTable
from service.errors import BrokenContainer, reason_of

Symbols = NDArray[np.int32]

MOST_SPARE_BYTES = 8  # of the coder's state, at the end of a payload
MOST_BYTES_PER_SYMBOL = 3  # the least likely one has 16 bits
_WORD_BYTES = 4
_WORTH_SHORTENING = 512  # bytes; it costs an unpacking for every byte that is tried


def to_symbols(y: NDArray[np.float32], tables: Sequence[SymbolTable]) -> Symbols:
    """Round values (N, D) to the nearest symbols that the tables, one per latent, can code."""
    first = np.array([table.first for table in tables], np.float32)
    last = first + np.array([len(table.counts) - 1 for table in tables], np.float32)
    return np.clip(np.rint(y), first, last).astype(np.int32)


def pack_symbols(symbols: Symbols, tables: Sequence[SymbolTable]) -> bytes:
    """Code symbols as bytes: latent by latent, and within one latent image by image.

    Args:
        symbols: (N, D), each within its table.
        tables: One per latent, D.
    """
    encoder = stream.queue.RangeEncoder()
    for column, table in zip(symbols.T, tables, strict=True):
        if len(table.counts) > 1:
            encoder.encode(np.ascontiguousarray(column - table.first), entropy_model(table))
    return _shortest(encoder.get_compressed().astype(">u4").tobytes(), symbols, tables)


def unpack_symbols(payload: bytes, count: int, tables: Sequence[SymbolTable]) -> Symbols:
    """Decode the symbols of `count` images, (count, D): the inverse of `pack_symbols`.

    Raises:
        BrokenContainer: The bytes, or their number, do not encode such symbols.
    """
    decoder = decoder_of(payload, count * len(tables))
    symbols = np.empty((count, len(tables)), np.int32)
    for i, table in enumerate(tables):
        symbols[:, i] = take(decoder, table, count)
    return symbols


def symbols_crc32(*arrays: Symbols) -> int:
    """Return the CRC32 of symbols as little-endian int32, array after array."""
    crc32 = 0
    for symbols in arrays:
        crc32 = zlib.crc32(symbols.astype("<i4").tobytes(), crc32)
    return crc32


def decoder_of(payload: bytes, symbols: int) -> stream.queue.RangeDecoder:
    """Open a payload with this many symbols; missing bytes at its end are zero.

    Raises:
        BrokenContainer: It has more bytes than they can take.
    """
    if len(payload) > MOST_BYTES_PER_SYMBOL * symbols + MOST_SPARE_BYTES:
        raise BrokenContainer(f"the payload has {len(payload)} bytes, too many for {symbols} symbols")
    filled = payload + bytes(-len(payload) % _WORD_BYTES)
    return stream.queue.RangeDecoder(np.frombuffer(filled, ">u4").astype(np.uint32))


def take(decoder: stream.queue.RangeDecoder, table: SymbolTable, count: int) -> Symbols:
    """Decode the next symbols of one table, (count,); a table with one symbol takes no bytes.

    Raises:
        BrokenContainer: No symbols are written like this.
    """
    if len(table.counts) == 1 or not count:
        return np.full(count, table.first, np.int32)
    try:
        indices: NDArray[np.int32] = decoder.decode(entropy_model(table), count)
    except (AssertionError, ValueError) as error:  # what the coder raises
        raise BrokenContainer(f"the payload is not a sequence of symbols: {reason_of(error)}") from error
    return indices + np.int32(table.first)


def entropy_model(table: SymbolTable) -> stream.model.Categorical:
    """Return the table as an entropy model of the range coder."""
    return _categorical(table.counts)


@lru_cache(maxsize=4096)  # tables: those of two rates of photographs, some kilobytes each
def _categorical(counts: tuple[int, ...]) -> stream.model.Categorical:
    # The coder takes floats, and makes of symbol i the interval from floor(c[i] * (2**24 - n)) + i on, where n is the
    # number of symbols and c the sum of those before. Counts / 2**16 are exact, and so are these sums and products
    # (40 bits) in float64: no rounding can differ. `perfect=True` would search with logarithms.
    probabilities = np.array(counts, np.float64) / TABLE_TOTAL
    return stream.model.Categorical(probabilities, perfect=False)


def _shortest(packed: bytes, symbols: Symbols, tables: Sequence[SymbolTable]) -> bytes:
    """Return the first bytes that say the same: the coder ends with whole words, and a missing byte reads as zero."""
    if len(packed) > _WORTH_SHORTENING:
        return packed
    whole = int.from_bytes(packed, "big")
    for length in range(max(0, len(packed) - MOST_SPARE_BYTES), len(packed)):
        cut = 8 * (len(packed) - length)
        for head in (whole >> cut, (whole >> cut) + 1):
            if head < 1 << 8 * length and _says(candidate := head.to_bytes(length, "big"), symbols, tables):
                return candidate
    return packed


def _says(packed: bytes, symbols: Symbols, tables: Sequence[SymbolTable]) -> bool:
    try:
        return np.array_equal(unpack_symbols(packed, len(symbols), tables), symbols)
    except BrokenContainer:
        return False
