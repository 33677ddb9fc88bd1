"""Tiles of one axis and of a picture, by hand; turned pictures and what a tile sees beyond the edges."""

import numpy as np
import pytest

from service.contract.manifest import InputSpec
from service.images.tiles import (
    ORIENTATIONS,
    TILE,
    UNTILED_PIXELS,
    Span,
    oriented,
    padded_window,
    plan,
    seen_pixels,
    spans,
    upright,
)


def spec(multiple_of: int, halo: int) -> InputSpec:
    return InputSpec(channels=1, height=None, width=None, multiple_of=multiple_of, halo=halo, resize="reject")


@pytest.mark.parametrize(
    ("side", "padded", "multiple_of", "halo", "tile", "expected"),
    [
        (10, 10, 1, 2, 4, [Span(0, 4, 0, 6), Span(4, 8, 2, 10), Span(8, 10, 6, 10)]),
        (8, 8, 1, 0, 4, [Span(0, 4, 0, 4), Span(4, 8, 4, 8)]),
        (4, 4, 1, 3, 4, [Span(0, 4, 0, 4)]),
        # Cells of 4: a tile of 10 is 8, a halo of 3 is 4, and the last span ends with the image, not with its padding.
        (18, 20, 4, 3, 10, [Span(0, 8, 0, 12), Span(8, 16, 4, 20), Span(16, 18, 12, 20)]),
        (18, 20, 4, 4, 10, [Span(0, 8, 0, 12), Span(8, 16, 4, 20), Span(16, 18, 12, 20)]),
        (18, 20, 4, 5, 10, [Span(0, 8, 0, 16), Span(8, 16, 0, 20), Span(16, 18, 8, 20)]),
        (6, 8, 4, 0, 1, [Span(0, 4, 0, 4), Span(4, 6, 4, 8)]),  # a tile is a cell at least
        (4, 8, 4, 0, 4, [Span(0, 4, 0, 4)]),  # nothing to answer for in the padding
    ],
)
def test_spans_cover_an_axis_once_and_see_a_halo_more(  # noqa: PLR0917  what makes a span
    side: int, padded: int, multiple_of: int, halo: int, tile: int, expected: list[Span]
) -> None:
    assert spans(side, padded, spec(multiple_of, halo), tile) == expected


def test_a_picture_is_planned_row_by_row() -> None:
    found = list(plan(5, 9, spec(4, 1), tile=4))

    rows = [Span(0, 4, 0, 8), Span(4, 5, 0, 8)]
    columns = [Span(0, 4, 0, 8), Span(4, 8, 0, 12), Span(8, 9, 4, 12)]
    assert found == [(row, column) for row in rows for column in columns]


@pytest.mark.parametrize(
    ("height", "width", "tiles"),
    [
        (1024, 1024, 1),
        (1024, 1025, 4),
        (1, UNTILED_PIXELS, 1),
        (UNTILED_PIXELS, 1, 1),
        (TILE, TILE + 1, 1),
        (TILE, 2 * TILE, 2),
        (2 * TILE + 1, TILE, 3),
    ],
)
def test_a_megapixel_goes_through_whole_and_more_does_not(height: int, width: int, tiles: int) -> None:
    found = list(plan(height, width, spec(8, 16)))

    assert len(found) == tiles
    assert sum((r.stop - r.start) * (c.stop - c.start) for r, c in found) == height * width


@pytest.mark.parametrize("tile", [4, 16])
def test_a_small_picture_is_tiled_where_the_tiles_are_named(tile: int) -> None:
    assert len(list(plan(32, 32, spec(1, 0), tile=tile))) == (32 // tile) ** 2


def test_the_eight_orientations_are_all_there_are_and_come_back() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

    turned = [oriented(x, i) for i in range(ORIENTATIONS)]

    assert ORIENTATIONS == 8
    assert len({(t.shape, t.tobytes()) for t in turned}) == 8
    assert np.array_equal(turned[0], x)
    assert np.array_equal(turned[1], np.stack([np.rot90(plane) for plane in x]))
    assert np.array_equal(turned[4], x[:, :, ::-1])
    assert np.array_equal(turned[7], np.stack([np.rot90(np.fliplr(plane), 3) for plane in x]))
    for i, image in enumerate(turned):
        assert image.shape == ((2, 3, 4) if i % 2 == 0 else (2, 4, 3))
        assert np.array_equal(upright(image, i), x)


ROW = np.array([[[0.0, 1.0, 2.0]]], np.float32)


@pytest.mark.parametrize(
    ("x", "rows", "columns", "size", "expected"),
    [
        (ROW, Span(0, 1, 0, 1), Span(0, 3, 0, 3), (1, 3), [[0, 1, 2]]),
        (np.repeat(ROW, 2, 1), Span(0, 2, 0, 2), Span(0, 3, 0, 5), (2, 3), [[0, 1, 2, 1, 0]] * 2),
        (np.repeat(ROW, 2, 1), Span(0, 2, 0, 2), Span(0, 3, 0, 6), (2, 3), [[0, 1, 2, 2, 2, 2]] * 2),  # a sliver
        (ROW.swapaxes(1, 2), Span(0, 3, 0, 5), Span(0, 1, 0, 1), (3, 1), [[0], [1], [2], [1], [0]]),
        (ROW.swapaxes(1, 2), Span(0, 3, 0, 6), Span(0, 1, 0, 1), (3, 1), [[0], [1], [2], [2], [2], [2]]),
        (ROW, Span(0, 1, 0, 2), Span(0, 3, 0, 4), (1, 3), [[0, 1, 2, 2]] * 2),  # one row cannot be mirrored
        # A window in the middle: what counts is how much the whole image has to mirror.
        (ROW, Span(4, 5, 4, 5), Span(4, 7, 4, 8), (5, 7), [[0, 1, 2, 1]]),
    ],
)
def test_a_window_goes_on_as_its_mirror_image_or_where_that_is_too_small_as_its_edge(
    x: np.ndarray, rows: Span, columns: Span, size: tuple[int, int], expected: list[list[float]]
) -> None:
    found = padded_window(x, rows, columns, *size)

    assert found.tolist() == [expected]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (700, 900), (1024, 1025), (3, 400_000), (1500, 4000)])
def test_what_a_network_sees_is_what_its_tiles_see(size: tuple[int, int], scale: int) -> None:
    model = spec(8, 20)
    seen = sum((r.right - r.left) * (c.right - c.left) for r, c in plan(*size, model, scale=scale))

    assert seen <= seen_pixels(*size, model, scale=scale) <= 1.1 * seen


def test_the_answers_of_a_tile_are_as_large_for_every_scale() -> None:
    for scale in (1, 2, 3):
        spans_of_one = {r.stop - r.start for r, _ in plan(4 * TILE, 2 * TILE, spec(1, 0), scale=scale)}

        assert spans_of_one == {TILE // scale}
