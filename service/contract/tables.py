"""The section of a manifest on entropy coding. Imports the standard library and pydantic only."""

import hashlib
import struct
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from service.contract.fields import Frozen, Sha256

TABLES_FILE = "tables.json"
TABLE_TOTAL = 1 << 16  # sum of the counts of a table
CELL = 8  # pixels a side of one place in a grid
CHANNELS = CELL * CELL  # symbols of one place


class SymbolTable(Frozen):
    """The static table of a range coder: symbol `first + i` has probability counts[i] / 65536.

    Symbols outside the table cannot be written. A table of one symbol takes no bits.
    """

    first: Annotated[int, Field(ge=-(2**20), le=2**20)]  # symbols stay exact in float32
    """Lowest symbol."""
    counts: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4096)]
    """Probability of each symbol in 1/65536; sums to 65536."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (total := sum(self.counts)) != TABLE_TOTAL:
            raise ValueError(f"the counts of a table sum to {total}, they must sum to {TABLE_TOTAL}")
        return self

    @property
    def reach(self) -> int:
        """The largest symbol of a symmetric table."""
        return len(self.counts) // 2

    @property
    def is_symmetric(self) -> bool:
        """Whether the symbols range from -`reach` to `reach`."""
        return len(self.counts) == 2 * self.reach + 1 and self.first == -self.reach


Tables = tuple[SymbolTable, ...]


class RatePoint(Frozen):
    """One operating point of rate and distortion: its tables, and its figures on test images.

    Without a grid there is a table per latent. With one there is a table for channel 0, and for each other channel one
    per context: `tables` for grey or luma, `chroma` for both planes of colour.

    `bytes_per_image` is measured with `images_per_file` images in one file, its header included.
    """

    tables: Annotated[Tables, Field(max_length=4096)] = ()
    """Tables of grey, luma or the latents; in `tables.json`."""
    chroma: Annotated[Tables, Field(max_length=4096)] = ()
    """Tables of both chroma planes; in `tables.json`."""
    images_per_file: PositiveInt
    """Images in the measured file."""
    bytes_per_image: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Bytes per image, header included."""
    psnr_db: Annotated[float, Field(allow_inf_nan=False)]
    """PSNR on test images, in dB."""

    def tables_of_planes(self, count: int) -> list[Tables]:
        """Return the tables of each plane of an image: grey, or luma and chroma."""
        return [self.tables, *[self.chroma] * (count - 1)]


class Grid(Frozen):
    """Symbols of planes of any size: 64 at every place of a grid, for 8x8 pixels each; see `contract.plane_coder`.

    Attributes:
        context_from: Activity around a place from which the second context is used, the third and so on.
    """

    context_from: Annotated[tuple[Annotated[int, Field(gt=0, le=2**16)], ...], Field(max_length=31)]
    """Activity from which each further context is used, rising."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in pairwise(self.context_from)):
            raise ValueError("context_from must rise")
        return self

    @property
    def contexts(self) -> int:
        """Number of contexts per channel; channel 0 has one."""
        return len(self.context_from) + 1

    def check(self, rates: tuple[RatePoint, ...]) -> None:
        """Check that the tables fit this grid, so that all contexts can write the same symbols.

        Raises:
            ValueError: The tables do not fit.
        """
        wanted = 1 + (CHANNELS - 1) * self.contexts
        for tables in (tables for point in rates for tables in (point.tables, point.chroma)):
            if len(tables) != wanted:
                raise ValueError(f"{self.contexts} contexts need {wanted} tables, and as many for chroma")
            if not all(table.is_symmetric for table in tables):
                raise ValueError("the tables of a grid go from -n to n")
            reaches = [table.reach for table in tables[1:]]
            if any(reach != reaches[i - i % self.contexts] for i, reach in enumerate(reaches)):
                raise ValueError("all contexts of a channel have the same symbols")


class Compression(Frozen):
    """The entropy coding of symbols at every rate: fewest bytes first.

    The graph `compress` returns a number per latent, which is rounded to a symbol; `decompress` returns an image for
    symbols. `rate` is the index of a point, as float32. The tables alone convert between symbols and the file.

    With a `grid` the graphs see one plane at a time: grey, or the luma and both chroma planes of a colour image, which
    have half its size. For chroma `rate` is the index plus the number of rates.

    Attributes:
        rates: From few bytes to many.
        default_rate: Index of the rate used if a request names none.
        grid: Set if the number of symbols depends on the size of the image.
        tables_sha256: Of all tables; see `digest_of`.
        golden: The symbols of the golden sample of `decompress` as the range coder writes them with the tables of its
            first image's rate, in hexadecimal.
    """

    rates: Annotated[tuple[RatePoint, ...], Field(min_length=1, max_length=64)]
    """Rates, from few bytes to many."""
    default_rate: Annotated[int, Field(ge=0)]
    """Index of the rate used if a request names none."""
    grid: Grid | None = None
    """Arrangement of the symbols of a plane; null for one row of symbols per image."""
    tables_sha256: Sha256
    """SHA-256 of all tables."""
    golden: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=2**16)]
    """Golden sample as the range coder writes it, in hexadecimal."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default_rate >= len(self.rates):
            raise ValueError(f"default_rate is {self.default_rate}, but there are {len(self.rates)} rates")
        if not all(point.tables for point in self.rates):
            raise ValueError(f"a rate has no tables; is {TABLES_FILE} missing?")
        if len({len(point.tables) for point in self.rates}) > 1:
            raise ValueError("every rate needs a table for every latent")
        chroma = {len(point.chroma) for point in self.rates}
        if self.grid is None and chroma != {0}:
            raise ValueError("tables for chroma need a grid")
        if self.grid is not None:
            self.grid.check(self.rates)
        if (found := digest_of(self.rates)) != self.tables_sha256:
            raise ValueError(f"the tables have sha256 {found[:12]}…, tables_sha256 is {self.tables_sha256[:12]}…")
        return self

    @property
    def symbol_shape(self) -> tuple[int | None, ...]:
        """Shape of the symbols of one image or plane; None where it depends on the size."""
        return (CHANNELS, None, None) if self.grid else (len(self.rates[0].tables),)


def digest_of(rates: tuple[RatePoint, ...]) -> str:
    """Return the SHA-256 of all tables in order.

    `first` (int32), number of counts (uint32), counts (uint32), little endian.
    """
    sha256 = hashlib.sha256()
    for point in rates:
        for table in (*point.tables, *point.chroma):
            length = len(table.counts)
            sha256.update(struct.pack(f"<iI{length}I", table.first, length, *table.counts))
    return sha256.hexdigest()
