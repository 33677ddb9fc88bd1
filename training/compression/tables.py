"""From the symbols of the training images to static tables of integers."""

import numpy as np
from numpy.typing import NDArray

from service.contract.tables import TABLE_TOTAL, SymbolTable


def fit_tables(symbols: NDArray[np.int32]) -> tuple[SymbolTable, ...]:
    """A table per latent for symbols (N, D)."""
    return tuple(fit_table(column) for column in symbols.T)


def fit_table(symbols: NDArray[np.int32]) -> SymbolTable:
    """How often each symbol comes, in 1/65536, from one below the least to one above the largest; none is impossible.

    A latent that always has one symbol keeps it alone, and costs nothing.
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
