"""A grid of symbols as bytes: static integer tables, chosen by integers that the reader has already read."""

from dataclasses import dataclass

import numpy as np
from constriction import stream
from jaxtyping import Int32, Int64

from service.manifest import TABLE_TOTAL, SymbolTable
from training.compression.lapped import CHANNELS, frequencies
from training.compression.tables import fit_table

CONTEXT_FROM = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 60, 90)  # where the next context begins
CONTEXTS = len(CONTEXT_FROM) + 1
LAST_FEW = 8  # channels that a context looks at; all before took more bytes of training photographs
FIRST_FEW = 6  # channels, with few before them: the means of blocks help

Symbols = Int32[np.ndarray, "image frequency row column"]
Plane = Int32[np.ndarray, "image row column"]
Contexts = Int64[np.ndarray, "image row column"]


@dataclass(frozen=True)
class GridTables:
    """For every channel and context a table; the same for all places of the grid.

    Channel by channel is written, low frequencies first. How large the symbols of lower frequencies are around a place
    says how large the next will be: their sum is the context, as of Wu and Memon, CALIC, 1997. Channel 0 is the
    mean of a block; written is its difference to what its neighbours let expect.
    """

    tables: tuple[tuple[SymbolTable, ...], ...]  # channel, context

    def clip(self, symbols: Symbols) -> Symbols:
        """The nearest symbols that can be written: within what training images had, channel by channel."""
        largest = np.array([len(tables[0].counts) // 2 for tables in self.tables], np.int32)
        largest = np.maximum(largest - 1, 0)  # tables go one further
        largest[0] //= 2  # its differences may be twice as large
        bound = largest[None, :, None, None]
        kept: Symbols = np.clip(symbols, -bound, bound)
        return kept

    def pack(self, symbols: Symbols) -> bytes:
        """Symbols (N, 64, rows, columns) as bytes."""
        encoder = stream.queue.RangeEncoder()
        for channel in range(CHANNELS):
            plane = _differences(symbols[:, 0]) if channel == 0 else symbols[:, channel]
            contexts = _contexts(symbols, channel)
            for context, table in enumerate(self.tables[channel]):
                chosen = plane[contexts == context]
                if len(chosen) and len(table.counts) > 1:
                    encoder.encode(np.ascontiguousarray(chosen - table.first), _model(table))
        payload: bytes = encoder.get_compressed().astype(">u4").tobytes()
        return payload

    def unpack(self, payload: bytes, shape: tuple[int, int, int]) -> Symbols:
        """The inverse of `pack`, for (N, rows, columns)."""
        decoder = stream.queue.RangeDecoder(np.frombuffer(payload, ">u4").astype(np.uint32))
        symbols = np.zeros((shape[0], CHANNELS, *shape[1:]), np.int32)
        for channel in range(CHANNELS):
            contexts = _contexts(symbols, channel)
            plane = np.zeros(shape, np.int32)
            for context, table in enumerate(self.tables[channel]):
                chosen = contexts == context
                count = int(chosen.sum())
                many = count and len(table.counts) > 1
                plane[chosen] = table.first + (decoder.decode(_model(table), count) if many else 0)
            symbols[:, channel] = _sums(plane) if channel == 0 else plane
        return symbols


def fit_grid_tables(symbols: Symbols, *, in_contexts: bool = True) -> GridTables:
    """The tables of training images: how often each symbol comes in each context.

    Args:
        symbols: (N, 64, rows, columns).
        in_contexts: Else all contexts of a channel have one table.
    """
    return GridTables(tuple(_fit_channel(symbols, channel, in_contexts=in_contexts) for channel in range(CHANNELS)))


def _fit_channel(symbols: Symbols, channel: int, *, in_contexts: bool) -> tuple[SymbolTable, ...]:
    plane = _differences(symbols[:, 0]) if channel == 0 else symbols[:, channel]
    chosen = _contexts(symbols, channel)
    largest = int(np.abs(symbols[:, channel]).max())
    reach = 2 * largest if channel == 0 else largest
    every = np.arange(-reach, reach + 1, dtype=np.int32)  # once each: all contexts can write the same symbols
    parts = [plane[chosen == context] if in_contexts else plane.reshape(-1) for context in range(CONTEXTS)]
    return tuple(fit_table(np.concatenate([part, every])) for part in parts)


def _contexts(symbols: Symbols, channel: int) -> Contexts:
    """0 to 13 for every place, from channels below `channel` alone."""
    if channel == 0:
        return np.zeros(symbols[:, 0].shape, np.int64)
    mean = np.pad(symbols[:, 0], ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int64)
    slope = np.abs(mean[:, :-2, 1:-1] - mean[:, 2:, 1:-1]) + np.abs(mean[:, 1:-1, :-2] - mean[:, 1:-1, 2:])
    here = np.abs(symbols[:, _NEAR[channel]]).sum(1, dtype=np.int64)
    level = np.abs(symbols[:, max(1, channel - LAST_FEW) : channel]).sum(1, dtype=np.int64)
    wide = np.pad(level, ((0, 0), (1, 1), (1, 1)))
    around = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    activity = 8 * here + 2 * level + around + (slope if channel < FIRST_FEW else 0)
    contexts: Contexts = np.searchsorted(CONTEXT_FROM, activity, side="right")
    return contexts


def _near(channel: int) -> list[int]:
    """Channels of the frequencies just below, in both directions and across."""
    order = frequencies()
    v, h = order[channel]
    below = [(v - 1, h), (v, h - 1), (v - 1, h - 1), (v - 2, h), (v, h - 2)]
    return [order.index(f) for f in below if f in order and f != (0, 0)]


_NEAR = [_near(channel) for channel in range(CHANNELS)]


def _differences(means: Plane) -> Plane:
    """What means of blocks differ by from what `_expected` makes of those before them."""
    _, rows, columns = means.shape
    made = np.empty_like(means)
    for row in range(rows):
        for column in range(columns):
            made[:, row, column] = means[:, row, column] - _expected(means, row, column)
    return made


def _sums(differences: Plane) -> Plane:
    """The inverse of `_differences`."""
    _, rows, columns = differences.shape
    means = np.zeros_like(differences)
    for row in range(rows):
        for column in range(columns):
            means[:, row, column] = differences[:, row, column] + _expected(means, row, column)
    return means


def _expected(means: Plane, row: int, column: int) -> Int32[np.ndarray, " image"]:
    """From the left, the upper and the upper left one (the median of Weinberger et al., LOCO-I, 2000)."""
    if row == 0:
        return means[:, 0, column - 1] if column else np.zeros(len(means), np.int32)
    up = means[:, row - 1, column]
    if column == 0:
        return up
    left, corner = means[:, row, column - 1], means[:, row - 1, column - 1]
    low, high = np.minimum(up, left), np.maximum(up, left)
    expected: Int32[np.ndarray, " image"] = np.clip(up + left - corner, low, high)
    return expected


def _model(table: SymbolTable) -> stream.model.Categorical:
    # Multiples of 2**-16: exact in float64, as service/container.py says.
    return stream.model.Categorical(np.array(table.counts, np.float64) / TABLE_TOTAL, perfect=False)
