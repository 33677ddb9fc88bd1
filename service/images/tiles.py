"""Large images in tiles that overlap by the reach of the network, so that tiled equals untiled."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.contract.manifest import InputSpec
from service.images.image import Pixels

# Sizes of a graph's output: a graph that enlarges gets smaller tiles, because other requests wait for an inference.
TILE = 768  # side in pixels; with a halo of 112, one inference has 0.98 megapixels
UNTILED_PIXELS = 1 << 20  # Images up to this many pixels are not tiled.
ORIENTATIONS = 8  # four quarter turns of a rectangle, each mirrored or not


@dataclass(frozen=True)
class Span:
    """A tile along one axis: [start, stop) of the output is computed from [left, right) of the padded image."""

    start: int
    stop: int
    left: int
    right: int


def spans(side: int, padded: int, spec: InputSpec, tile: int) -> list[Span]:
    """Split one axis into overlapping tiles.

    Args:
        side: Length of the image along this axis.
        padded: That length, padded to a multiple of `spec.multiple_of`.
        spec: Input of the model. Every tile begins at a multiple of `spec.multiple_of`.
        tile: Largest stop - start.
    """
    cell = spec.multiple_of
    step, halo = max(cell, tile // cell * cell), -(-spec.halo // cell) * cell
    starts = range(0, padded, step)
    return [Span(s, min(s + step, side), max(0, s - halo), min(padded, s + step + halo)) for s in starts if s < side]


def plan(
    height: int, width: int, spec: InputSpec, *, scale: int = 1, tile: int | None = None
) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns of every tile in reading order; a single tile up to a megapixel of output.

    Args:
        height: Height of the image.
        width: Width of the image.
        spec: Input of the model.
        scale: Factor by which the graph enlarges.
        tile: Side of a tile without its halo, in pixels of the input; by default `TILE` pixels of the output.
    """
    tile = _tile_side(height, width, spec, scale) if tile is None else tile
    cell = spec.multiple_of
    padded_height, padded_width = (-(-side // cell) * cell for side in (height, width))
    for rows in spans(height, padded_height, spec, tile):
        for columns in spans(width, padded_width, spec, tile):
            yield rows, columns


def _tile_side(height: int, width: int, spec: InputSpec, scale: int) -> int:
    is_whole = height * width * scale**2 <= UNTILED_PIXELS
    return max(height, width) + spec.multiple_of if is_whole else TILE // scale


def seen_pixels(height: int, width: int, spec: InputSpec, *, scale: int = 1) -> int:
    """Return the number of pixels that pass through the network, all tiles with their halos."""
    tile, cell = _tile_side(height, width, spec, scale), spec.multiple_of
    step, halo = max(cell, tile // cell * cell), -(-spec.halo // cell) * cell
    seen = 1
    for side in (height, width):
        padded = -(-side // cell) * cell
        tiles = -(-padded // step)
        seen *= min(padded + 2 * halo * (tiles - 1), tiles * padded)
    return seen


def oriented(x: Pixels, orientation: int) -> Pixels:
    """Rotate or reflect images (..., H, W) to one of the `ORIENTATIONS`; odd ones swap height and width."""
    mirrored = x[..., ::-1] if orientation >= ORIENTATIONS // 2 else x
    return np.rot90(mirrored, orientation, axes=(-2, -1))


def upright(x: Pixels, orientation: int) -> Pixels:
    """Undo `oriented`."""
    turned_back = np.rot90(x, -orientation, axes=(-2, -1))
    return turned_back[..., ::-1] if orientation >= ORIENTATIONS // 2 else turned_back


def padded_window(x: Pixels, rows: Span, columns: Span, height: int, width: int) -> Pixels:
    """Return the padded window that the network sees.

    Beyond the bottom and right edges, the image is mirrored. A sliver has too few pixels for that: its edge is
    replicated.

    Args:
        x: Part of [left, right) inside the image, (..., window height, window width).
        rows: Rows of the tile.
        columns: Columns of the tile.
        height: Height of the whole image.
        width: Width of the whole image.
    """
    bottom, right = rows.right - rows.left - x.shape[-2], columns.right - columns.left - x.shape[-1]
    if not bottom and not right:
        return x
    mirrors = bottom < height and right < width
    padding = [(0, 0)] * (x.ndim - 2) + [(0, bottom), (0, right)]
    return np.pad(x, padding, mode="reflect" if mirrors else "edge")
