"""/compress and /decompress by models for photographs: images of any size, plane by plane and tile by tile.

The planes of each image run through the graph in tiles, and the symbols of all images of a request form one file.
Symbols are held for all images, pixels for one image at a time.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from service.contract.colour import Plane, from_planes, sizes_of_planes, to_planes
from service.contract.container import Container
from service.contract.manifest import Manifest
from service.contract.plane_coder import Symbols, clip_grid, pack_grids, places_of, unpack_grids
from service.contract.tables import CELL, CHANNELS, Grid, Tables
from service.errors import TooManyPixels
from service.http.negotiation import negotiate
from service.images.image import Image, Pixels
from service.images.inspect import ImageFile
from service.images.tiles import Span, padded_window, plan
from service.limits import InputLimits
from service.media_types import HOURGLASS_TYPE, NPY_TYPE
from service.models.batcher import Batcher
from service.models.job import Inputs, Outputs
from service.progress import advance, expect
from service.tasks.answer import Answer
from service.tasks.compressed_file import (
    array_answer,
    check_count,
    check_file,
    check_symbols,
    compression_of,
    encoded,
    files_answer,
    image_type_of,
    numbered,
    rate_of,
    said_sizes,
    write_file,
)
from service.tasks.image_input import read_image


@dataclass
class CompressPlanes:
    """Compress image files or arrays to one file. `rate` is an index of the model's rates, None for its default."""

    files: Sequence[ImageFile]
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    rate: int | None
    sizes: list[tuple[int, int]] = field(default_factory=list, init=False)
    images: list[list[Symbols]] = field(default_factory=list, init=False)  # planes of each image

    async def run(self, batcher: Batcher) -> Answer:
        """Return the file. Images are read in a thread, and tiles run in the batcher's, one after another.

        Raises:
            RequestError: A file cannot be read. With several files, the problem has its number.
        """
        negotiate(self.accept, [HOURGLASS_TYPE])
        rate = rate_of(self.manifest, self.rate)
        for number, file in enumerate(self.files):
            with numbered(number, len(self.files)):
                for planes in await asyncio.to_thread(self._read, file):
                    self.images.append([await self._symbols(planes, i, rate, batcher) for i in range(len(planes))])
        return await asyncio.to_thread(self._write, rate)

    def _read(self, file: ImageFile) -> list[list[Plane]]:
        """Return the planes of each image of a file or array."""
        limits = self.limits
        image = read_image(file, limits)
        self.sizes += [image.size] * len(image.values)
        check_count(len(self.sizes), limits)
        pixels = sum(CELL**2 * math.prod(places_of(*size)) for size in self.sizes)
        if pixels > limits.max_pixels:
            raise TooManyPixels(
                f"the images of the request have {pixels} pixels together, with sides padded to multiples of "
                f"{CELL}; the limit is {limits.max_pixels} (setting max_pixels)"
            )
        return [to_planes(Image(values[None]).pixels(image.channels)[0]) for values in image.values]

    async def _symbols(self, planes: list[Plane], number: int, rate: int, batcher: Batcher) -> Symbols:
        plane, compression = planes[number], compression_of(self.manifest)
        point = compression.rates[rate]
        height, width = plane.shape
        symbols = np.empty((CHANNELS, *places_of(height, width)), np.int32)
        tiles = list(plan(height, width, self.manifest.input))
        expect(len(tiles))
        for rows, columns in tiles:
            tile = PixelTile(
                plane, rows, columns, rate + (len(compression.rates) if number else 0), symbols,
                point.chroma if number else point.tables,
            )  # fmt: skip
            await batcher.answer(tile)  # one at a time, so that other requests run in between and memory is bounded
            advance()
        return symbols

    def _write(self, rate: int) -> Answer:
        compression, manifest = compression_of(self.manifest), self.manifest
        point, grid = compression.rates[rate], _grid_of(manifest)
        count: Literal[1, 3] = 3 if any(len(planes) == 3 for planes in self.images) else 1
        for planes, size in zip(self.images, self.sizes, strict=True):  # grey images get empty chroma
            missing = sizes_of_planes(*size, count)[len(planes) :]
            planes += [np.zeros((CHANNELS, *places_of(*plane)), np.int32) for plane in missing]
        every = [symbols for planes in self.images for symbols in planes]
        tables = point.tables_of_planes(count) * len(self.images)
        payload = pack_grids(list(zip(every, tables, strict=True)), grid)
        sizes, images = said_sizes(self.sizes), len(self.images)
        return Answer(HOURGLASS_TYPE, write_file(manifest, rate, sizes, payload, every, count=images, planes=count))


@dataclass
class DecompressPlanes:
    """Decompress a file to its images: one as an image or array, several as a ZIP archive or array."""

    file: Container
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    quality: int

    async def run(self, batcher: Batcher) -> Answer:
        """Return the images. Symbols are read and files written in a thread, and tiles run in the batcher's.

        Raises:
            OtherDecoder: The file was made for another decoder or other tables.
            BrokenContainer: The file is damaged.
            TooManyPixels: The images have more pixels than the limit.
            InvalidArray, NotAcceptable: See `image_type_of`.
        """
        sizes = check_file(self.file, self.manifest, self.limits)
        media_type = image_type_of(self.file, sizes, self.accept)
        arrays: list[Pixels] = []
        files: list[bytes] = []
        images = await asyncio.to_thread(self._unpack, sizes)
        for size, symbols in zip(sizes, images, strict=True):
            shapes = sizes_of_planes(*size, len(symbols))
            planes = [await self._plane(grid, i, shapes[i], batcher) for i, grid in enumerate(symbols)]
            x_hat = await asyncio.to_thread(_image, planes)
            if media_type == NPY_TYPE:
                arrays.append(x_hat)
            else:
                files.append(await asyncio.to_thread(encoded, x_hat, media_type, self.quality))
        return await asyncio.to_thread(lambda: array_answer(arrays) if arrays else files_answer(files, media_type))

    def _unpack(self, sizes: list[tuple[int, int]]) -> list[list[Symbols]]:
        """Return the symbols of the planes of each image."""
        file, point = self.file, compression_of(self.manifest).rates[self.file.rate]
        count = file.planes or 1
        shapes = [places_of(*plane) for size in sizes for plane in sizes_of_planes(*size, count)]
        tables = point.tables_of_planes(count) * len(sizes)
        every = unpack_grids(file.payload, shapes, tables, _grid_of(self.manifest))
        check_symbols(file, *every)
        return [every[start : start + count] for start in range(0, len(every), count)]

    async def _plane(self, symbols: Symbols, number: int, size: tuple[int, int], batcher: Batcher) -> Plane:
        rate = self.file.rate + (len(compression_of(self.manifest).rates) if number else 0)
        plane = np.empty(size, np.float32)
        tiles = list(plan(*size, self.manifest.input))
        expect(len(tiles))
        for rows, columns in tiles:
            await batcher.answer(SymbolTile(symbols, rows, columns, rate, plane))
            advance()
        return plane


@dataclass
class PixelTile:
    """A job that encodes a part of a plane and writes its symbols to `symbols`, (64, rows, columns)."""

    plane: Plane
    rows: Span
    columns: Span
    rate: int
    symbols: Symbols
    tables: Tables

    is_small = False

    def prepare(self) -> Inputs:
        rows, columns = self.rows, self.columns
        part = self.plane[rows.left : rows.right, columns.left : columns.right]
        window = padded_window(part[None, None], rows, columns, *self.plane.shape)
        return np.ascontiguousarray(window), np.full(1, self.rate, np.float32)

    def finish(self, outputs: Outputs) -> None:
        (y,) = outputs
        top, bottom = _cell_span(self.rows)
        left, right = _cell_span(self.columns)
        first_row, first_column = self.rows.left // CELL, self.columns.left // CELL
        inner = y[0, :, top - first_row : bottom - first_row, left - first_column : right - first_column]
        self.symbols[:, top:bottom, left:right] = clip_grid(inner, self.tables)


@dataclass
class SymbolTile:
    """A job that decodes a part of the symbols of a plane and writes its pixels to `plane`, (H, W)."""

    symbols: Symbols
    rows: Span
    columns: Span
    rate: int
    plane: Plane

    is_small = False

    def prepare(self) -> Inputs:
        rows, columns = self.rows, self.columns
        window = self.symbols[:, rows.left // CELL : rows.right // CELL, columns.left // CELL : columns.right // CELL]
        return window[None].astype(np.float32), np.full(1, self.rate, np.float32)

    def finish(self, outputs: Outputs) -> None:
        (x_hat,) = outputs
        rows, columns = self.rows, self.columns
        inner = x_hat[0, 0, rows.start - rows.left :, columns.start - columns.left :]
        inner = inner[: rows.stop - rows.start, : columns.stop - columns.start]
        self.plane[rows.start : rows.stop, columns.start : columns.stop] = inner


def _image(planes: list[Plane]) -> Pixels:
    return np.clip(from_planes(planes), 0.0, 1.0)[None]


def _grid_of(manifest: Manifest) -> Grid:
    grid = compression_of(manifest).grid
    assert grid is not None  # noqa: S101  required in a manifest of a compressor for any size
    return grid


def _cell_span(span: Span) -> tuple[int, int]:
    """Return start and stop of a tile in cells."""
    return span.start // CELL, -(-span.stop // CELL)
