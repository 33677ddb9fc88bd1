"""Grids of symbols as bytes and back: all places share the tables, and what was read before says which one is next.

A plane of an image has 64 symbols for every 8x8 pixels. Written is channel by channel, low frequencies first; within a
channel context by context, and there row by row. How large symbols of lower frequencies are at a place and around it
says how large the next will be: their sum, in whole numbers, is the context (Wu and Memon, CALIC, 1997,
https://doi.org/10.1109/26.585919). Channel 0 is the mean of a block: written is its difference to what its neighbours
let expect (Weinberger et al., LOCO-I, 2000, https://doi.org/10.1109/83.855427).
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from service.contract.range_coder import decoder_of, entropy_model, take, unpack_symbols
from service.contract.tables import CELL, CHANNELS, Compression, Grid, SymbolTable, Tables
from service.deadline import check_deadline
from service.errors import BrokenContainer

Symbols = NDArray[np.int32]  # (64, rows, columns)
Means = NDArray[np.int32]  # (rows, columns)
Numbers = NDArray[np.signedinteger[Any]]
Contexts = NDArray[np.uint8]
Activity = NDArray[np.int32]

_LOOK_EVERY = 1024  # diagonals, at the clock: they take some milliseconds
_LAST_FEW = 8  # channels that a context looks at: all before took more bytes of photographs
_FIRST_FEW = 6  # channels, with few before them: the means of blocks help
_LARGEST_MEAN = 1 << 20  # a payload may add up its differences to anything


def frequencies() -> list[tuple[int, int]]:
    """Return the 64 frequencies (vertical, horizontal) of an 8x8 block by channel, low before high."""
    every = [(v, h) for v in range(CELL) for h in range(CELL)]
    return sorted(every, key=lambda f: (f[0] + f[1], f[0]))


def places_of(height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the grid of a plane, rounded up."""
    return -(-height // CELL), -(-width // CELL)


def clip_grid(y: NDArray[np.float32], tables: Tables) -> Symbols:
    """Round values (64, rows, columns) to the nearest symbols that the tables can code."""
    per_channel = (len(tables) - 1) // (CHANNELS - 1)
    largest = [table.reach for table in (tables[0], *tables[1::per_channel])]
    largest[0] //= 2  # its differences may be twice as large
    bound = np.array(largest, np.float32)[:, None, None]
    return np.clip(np.rint(y), -bound, bound).astype(np.int32)


def pack_grids(grids: Sequence[tuple[Symbols, Tables]], grid: Grid) -> bytes:
    """Code the symbols of planes as bytes, one plane after another, each with its tables.

    One for channel 0, `grid.contexts` for each other.
    """
    encoder = stream.queue.RangeEncoder()
    for symbols, tables in grids:
        for plane, contexts, own in _channels(symbols, tables, grid):
            written = (differences(plane) if contexts is None else plane).reshape(-1)
            for places, table in zip(_places(contexts, plane.size, len(own)), own, strict=True):
                if len(places) and len(table.counts) > 1:
                    encoder.encode(written[places] - np.int32(table.first), entropy_model(table))
    payload: bytes = encoder.get_compressed().astype(">u4").tobytes()
    return payload.rstrip(b"\0")  # what is missing is read as zero


def unpack_grids(
    payload: bytes, shapes: Sequence[tuple[int, int]], tables: Sequence[Tables], grid: Grid
) -> list[Symbols]:
    """Decode the symbols of planes with these rows and columns: the inverse of `pack_grids`.

    Raises:
        BrokenContainer: The bytes, or their number, do not encode such symbols.
    """
    decoder = decoder_of(payload, sum(CHANNELS * rows * columns for rows, columns in shapes))
    planes = []
    for shape, of_plane in zip(shapes, tables, strict=True):
        symbols = np.zeros((CHANNELS, *shape), np.int32)
        for plane, contexts, own in _channels(symbols, of_plane, grid):
            read = plane.reshape(-1)
            for places, table in zip(_places(contexts, plane.size, len(own)), own, strict=True):
                if len(places):
                    read[places] = take(decoder, table, len(places))
            if contexts is None:
                plane[...] = sums(plane)
        planes.append(symbols)
    return planes


def golden_symbols(compression: Compression, shape: tuple[int, ...], rate: int) -> NDArray[np.int32]:
    """Decode the golden file of a manifest, for comparison with the recorded symbols of this shape.

    Raises:
        BrokenContainer: It cannot be read.
    """
    payload, tables = bytes.fromhex(compression.golden), compression.rates[rate].tables
    if compression.grid is None:
        return unpack_symbols(payload, shape[0], tables)
    shapes = [(shape[-2], shape[-1])] * shape[0]
    return np.stack(unpack_grids(payload, shapes, [tables] * shape[0], compression.grid))


def contexts_of(symbols: Symbols, grid: Grid) -> Iterator[Contexts | None]:
    """Return the contexts of every place per channel, from earlier channels; None for channel 0, which has one.

    It may be asked for the next channel as soon as the last one is known.
    """
    rows, columns = symbols.shape[1:]
    by_activity = _context_by_activity(grid.context_from)
    size = np.empty(symbols.shape, np.int32)
    wide = np.zeros((rows + 2, columns + 2), np.int32)  # sizes of the last few channels, and nothing around them
    level = wide[1:-1, 1:-1]
    slope = np.zeros((rows, columns), np.int32)
    for channel in range(CHANNELS):
        if channel == 0:
            yield None
            mean = np.pad(symbols[0], 1, mode="edge")
            slope = np.abs(mean[:-2, 1:-1] - mean[2:, 1:-1]) + np.abs(mean[1:-1, :-2] - mean[1:-1, 2:])
            size[0] = 0  # it is no frequency
            continue
        activity = np.zeros((rows, columns), np.int32)
        for near in _NEAR[channel]:
            activity += size[near]
        activity <<= 2
        activity += level
        activity <<= 1
        for around in (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]):
            activity += around
        if channel < _FIRST_FEW:
            activity += slope
        yield by_activity.take(activity, mode="clip")
        np.abs(symbols[channel], out=size[channel])
        level += size[channel]
        if channel > _LAST_FEW:
            level -= size[channel - _LAST_FEW]


def differences(means: Means) -> Means:
    """Return the differences of block means from their prediction."""
    expected = np.empty_like(means)
    expected[0] = np.concatenate([[0], means[0, :-1]])
    expected[1:, 0] = means[:-1, 0]
    expected[1:, 1:] = _middle(means[1:, :-1], means[:-1, 1:], means[:-1, :-1])
    return means - expected


def sums(read: Means) -> Means:
    """Return the inverse of `differences`: along diagonals, as a block needs those to its left and above.

    Raises:
        BrokenContainer: They add up to what no image has.
    """
    rows, columns = read.shape
    total = read.astype(np.int64)
    total[0] = np.cumsum(total[0])
    total[:, 0] = np.cumsum(total[:, 0])
    for diagonal in range(2, rows + columns - 1):
        if diagonal % _LOOK_EVERY == 0:
            check_deadline()
        row = np.arange(max(1, diagonal - columns + 1), min(rows, diagonal))
        column = diagonal - row
        left, up, corner = total[row, column - 1], total[row - 1, column], total[row - 1, column - 1]
        total[row, column] += _middle(left, up, corner)
    if len(total) and max(total.max(), -total.min()) > _LARGEST_MEAN:
        raise BrokenContainer("the payload has an impossible mean brightness")
    return total.astype(np.int32)


def _middle(left: Numbers, up: Numbers, corner: Numbers) -> Numbers:
    """Return the median of left, up and left + up - corner."""
    middle: Numbers = np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
    return middle


def _channels(
    symbols: Symbols, tables: Tables, grid: Grid
) -> Iterator[tuple[Means, Contexts | None, tuple[SymbolTable, ...]]]:
    for channel, contexts in enumerate(contexts_of(symbols, grid)):
        check_deadline()
        start = 1 + (channel - 1) * grid.contexts
        yield symbols[channel], contexts, tables[:1] if contexts is None else tables[start : start + grid.contexts]


@cache
def _context_by_activity(context_from: tuple[int, ...]) -> Contexts:
    """Return the context of every activity up to the last bound, beyond which none changes."""
    every = np.arange(context_from[-1] + 1 if context_from else 1)
    return np.searchsorted(context_from, every, side="right").astype(np.uint8)


def _places(contexts: Contexts | None, count: int, tables: int) -> list[NDArray[np.intp]]:
    """Return the places of each context, row by row, as indices of a plane in one row."""
    if contexts is None:
        return [np.arange(count)]
    flat = contexts.reshape(-1)
    order, ends = flat.argsort(kind="stable"), np.bincount(flat, minlength=tables).cumsum().tolist()
    return [order[start:end] for start, end in pairwise([0, *ends])]


def _near(channel: int) -> list[int]:
    """Return channels of the frequencies just below, in both directions and across."""
    order = frequencies()
    v, h = order[channel]
    below = [(v - 1, h), (v, h - 1), (v - 1, h - 1), (v - 2, h), (v, h - 2)]
    return [order.index(f) for f in below if f in order and f != (0, 0)]


_NEAR = [_near(channel) for channel in range(CHANNELS)]
