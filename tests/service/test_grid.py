"""Grids of symbols, without a service: what is written is read again, and contexts are worth their tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.plane_coder import (
    Symbols,
    clip_grid,
    contexts_of,
    differences,
    frequencies,
    pack_grids,
    sums,
    unpack_grids,
)
from service.contract.tables import CHANNELS, Compression, Grid, RatePoint, SymbolTable, digest_of
from service.errors import BrokenContainer
from tests.service.planemodels import GRID, REACH, grid_tables, symmetric_table

TABLES = grid_tables()


def symbols_of(seed: int, rows: int, columns: int, *, scale: float = 1.0) -> Symbols:
    """Much at some places and nothing at most, with slowly changing means, as of photographs."""
    rng = np.random.default_rng(seed)
    much = np.repeat(rng.random((1, rows, columns)) < 0.3, CHANNELS, 0)
    made = np.rint(rng.laplace(0.0, 2.0 * scale, (CHANNELS, rows, columns)) * much)
    made[0] = rng.integers(-3, 4, (rows, columns)).cumsum(0)
    return clip_grid(made.astype(np.float32), TABLES)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99)), min_size=1, max_size=4),
    st.sampled_from([0.1, 1.0, 100.0]),
)
def test_planes_of_any_sizes_come_back_from_their_bytes(shapes: list[tuple[int, int, int]], scale: float) -> None:
    planes = [symbols_of(seed, rows, columns, scale=scale) for rows, columns, seed in shapes]

    payload = pack_grids([(plane, TABLES) for plane in planes], GRID)
    read = unpack_grids(payload, [(rows, columns) for rows, columns, _ in shapes], [TABLES] * len(planes), GRID)

    assert all(np.array_equal(a, b) for a, b in zip(read, planes, strict=True))


def test_frequencies_go_from_low_to_high() -> None:
    order = frequencies()

    assert order[:6] == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
    assert order[-1] == (7, 7)
    assert len(set(order)) == CHANNELS


def test_symbols_that_no_table_has_are_cut_to_the_nearest() -> None:
    y = np.full((CHANNELS, 2, 3), 1e6, np.float32)
    y[:, 0] = -1e6

    symbols = clip_grid(y, TABLES)

    assert symbols[0].tolist() == [[-REACH] * 3, [REACH] * 3]  # its differences go twice as far
    assert symbols[9].tolist() == [[-REACH] * 3, [REACH] * 3]
    assert np.array_equal(unpack_grids(pack_grids([(symbols, TABLES)], GRID), [(2, 3)], [TABLES], GRID)[0], symbols)


def test_symbols_are_rounded_to_the_nearest() -> None:
    y = np.zeros((CHANNELS, 1, 4), np.float32)
    y[5] = [-1.6, -0.4, 0.6, 1.4]

    assert clip_grid(y, TABLES)[5].tolist() == [[-2, 0, 1, 1]]


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_means_are_the_sums_of_their_differences(rows: int, columns: int, seed: int) -> None:
    means = np.random.default_rng(seed).integers(-40, 40, (rows, columns)).astype(np.int32)

    assert np.array_equal(sums(differences(means)), means)


def test_differences_of_a_slope_are_the_slope() -> None:
    means = np.arange(5, dtype=np.int32)[:, None] + np.arange(6, dtype=np.int32)[None] * 3

    assert differences(means)[0].tolist() == [0, 3, 3, 3, 3, 3]
    assert set(differences(means)[1:, 1:].flat) == {1}  # never beyond the larger neighbour, here the upper one


def test_means_that_add_up_to_what_no_image_has_are_refused() -> None:
    with pytest.raises(BrokenContainer, match="mean brightness"):
        sums(np.full((1, 40_000), 30, np.int32))


def test_contexts_see_lower_frequencies_at_a_place_and_around_it_only() -> None:
    symbols = np.zeros((CHANNELS, 5, 5), np.int32)
    symbols[4, 2, 2] = 10  # frequency (1, 1): just below (1, 2), (2, 1) and (2, 2)

    contexts = [context for context in contexts_of(symbols, GRID) if context is not None]

    assert not any(context.any() for context in contexts[:4])  # channels 1 to 4
    assert contexts[frequencies().index((2, 2)) - 1][2, 2] == 2  # 8 times 10, and more
    assert contexts[4][2].tolist() == [0, 1, 1, 1, 0]  # beside it 10, at the place 20
    assert not contexts[19].any()  # neither just below nor one of the last eight


def test_where_little_is_around_little_is_written() -> None:
    flat = np.zeros((CHANNELS, 20, 20), np.int32)
    one_context = Grid(context_from=())
    flat[0] = 3

    in_contexts = pack_grids([(flat, TABLES)], GRID)
    alone = pack_grids([(flat, (TABLES[0], *[symmetric_table(REACH, centre=20_000)] * 63))], one_context)

    assert len(in_contexts) < 0.7 * len(alone)


@pytest.mark.parametrize("payload", [b"\xff" * 40, bytes(3 * 64 * 6 + 9)])
def test_a_payload_that_is_none_is_refused_or_gives_other_symbols(payload: bytes) -> None:
    try:
        (symbols,) = unpack_grids(payload, [(2, 3)], [TABLES], GRID)
    except BrokenContainer:
        return
    assert np.abs(symbols[1:]).max() <= REACH


def compression(tables: tuple[SymbolTable, ...], chroma: tuple[SymbolTable, ...], grid: Grid | None) -> Compression:
    rates = (RatePoint(tables=tables, chroma=chroma, images_per_file=1, bytes_per_image=1.0, psnr_db=1.0),)
    return Compression(rates=rates, default_rate=0, grid=grid, tables_sha256=digest_of(rates), golden="")


def test_a_manifest_whose_tables_do_not_fit_its_grid_is_refused() -> None:
    uneven = SymbolTable(first=0, counts=TABLES[1].counts)
    other = symmetric_table(3, centre=100)
    assert compression(TABLES, TABLES, GRID).symbol_shape == (CHANNELS, None, None)

    for tables, chroma, grid, message in (
        (TABLES[:-1], TABLES, GRID, "need 190 tables"),
        (TABLES, (), GRID, "need 190 tables"),
        (TABLES, TABLES, None, "need a grid"),
        ((*TABLES[:-1], uneven), TABLES, GRID, "from -n to n"),
        ((*TABLES[:-1], other), TABLES, GRID, "the same symbols"),
    ):
        with pytest.raises(ValueError, match=message):
            compression(tables, chroma, grid)


def test_contexts_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Grid(context_from=(3, 3))
