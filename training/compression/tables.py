"""Fit static integer tables to the symbols of training images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.contract.plane_coder import Symbols, contexts_of, differences
from service.contract.tables import CHANNELS, TABLE_TOTAL, Grid, SymbolTable, Tables

CONTEXTS = Grid(context_from=(1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 60, 90))
ONE_CONTEXT = Grid(context_from=())  # to see what the others are worth


def fit_tables(symbols: NDArray[np.int32]) -> tuple[SymbolTable, ...]:
    """Fit a table per latent to symbols (N, D)."""
    return tuple(fit_table(column) for column in symbols.T)


def fit_table(symbols: NDArray[np.int32]) -> SymbolTable:
    """Count the frequency of each symbol in 1/65536, from one below the least to one above the largest.

    Every symbol in that range has a frequency above 0. The table of a constant latent has one symbol, which takes no
    bits.
    """
    least, largest = int(symbols.min()), int(symbols.max())
    if least == largest:
        return SymbolTable(first=least, counts=(TABLE_TOTAL,))
    first = least - 1
    seen = np.bincount(symbols - first, minlength=largest - first + 2)
    free = TABLE_TOTAL - len(seen)  # one each is given away
    exact = seen * (free / len(symbols))
    counts = np.floor(exact).astype(np.int64)
    left = free - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1  # to those that rounding took most from
    return SymbolTable(first=first, counts=tuple(int(count) + 1 for count in counts))


def fit_grid_tables(planes: Sequence[Symbols], grid: Grid) -> Tables:
    """Count the frequency of each symbol in each context.

    Channel 0 has one table, the others one per context. All contexts of a channel have the same range of symbols:
    those that occur, their negatives, and one more.

    Args:
        planes: (64, rows, columns) each.
        grid: Definition of the contexts.
    """
    parts = [[[np.empty(0, np.int32)] for _ in range(grid.contexts if channel else 1)] for channel in range(CHANNELS)]
    for symbols in planes:
        for channel, contexts in enumerate(contexts_of(symbols, grid)):
            if contexts is None:
                parts[0][0].append(differences(symbols[0]).reshape(-1))
                continue
            for context, part in enumerate(parts[channel]):
                part.append(symbols[channel][contexts == context])
    tables = []
    for channel, of_channel in enumerate(parts):
        largest = max(int(np.abs(symbols[channel]).max()) for symbols in planes)
        reach = largest if channel else 2 * largest  # differences may be twice as large
        every = np.arange(-reach, reach + 1, dtype=np.int32)
        tables += [fit_table(np.concatenate([*part, every])) for part in of_channel]
    return tuple(tables)
