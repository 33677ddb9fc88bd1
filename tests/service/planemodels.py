"""A model for photographs made node by node: every pixel of an 8x8 block is a symbol."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from service.contract.manifest import Task
from service.contract.plane_coder import pack_grids
from service.contract.tables import CHANNELS, TABLE_TOTAL, Compression, Grid, RatePoint, SymbolTable, digest_of
from tests.service.toymodels import GOLDEN_GRID, Axis, make_graph, publish_toy

GRID = Grid(context_from=(4, 40))
REACH = 33  # symbols of all channels but the first, which has differences


def publish_plane_codec(
    models_dir: Path, *, name: str = "planes", version: int = 1, default_for: Sequence[Task] = ()
) -> Path:
    """A model of planes of any size that writes each pixel, in sixteenths (rate 0) or 64ths (rate 1)."""
    node = helper.make_node
    plane: list[Axis] = ["n", 1, "height", "width"]
    grid: list[Axis] = ["n", CHANNELS, "rows", "columns"]
    gain = [
        node("Mod", ["rate", "two"], ["index"], fmod=1),  # chroma comes as rate 2 and 3
        node("Mul", ["index", "more"], ["above"]),
        node("Add", ["above", "least"], ["flat"]),
        node("Reshape", ["flat", "column"], ["gain"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "two": np.array(2, np.float32),
        "more": np.array(48, np.float32),
        "least": np.array(16, np.float32),
        "column": np.array([-1, 1, 1, 1], np.int64),
        "half": np.array(0.5, np.float32),
    }
    compress = [
        node("Sub", ["x", "half"], ["from_half"]),
        node("SpaceToDepth", ["from_half"], ["blocks"], blocksize=8),
        node("Mul", ["blocks", "gain"], ["y"]),
    ]
    decompress = [
        node("Div", ["symbols", "gain"], ["blocks"]),
        node("DepthToSpace", ["blocks"], ["from_half"], blocksize=8),
        node("Add", ["from_half", "half"], ["x_hat"]),
    ]
    graphs: dict[Task, bytes] = {
        "compress": make_graph([*gain, *compress], {"x": plane, "rate": ["n"]}, {"y": grid}, constants),
        "decompress": make_graph([*gain, *decompress], {"symbols": grid, "rate": ["n"]}, {"x_hat": plane}, constants),
    }
    rates = tuple(
        RatePoint(tables=grid_tables(), chroma=grid_tables(), images_per_file=1, bytes_per_image=size, psnr_db=20.0)
        for size in (1000.0, 2000.0)
    )
    golden = pack_grids([(symbols, rates[0].tables) for symbols in GOLDEN_GRID.astype(np.int32)], GRID).hex()
    compression = Compression(rates=rates, default_rate=1, grid=GRID, tables_sha256=digest_of(rates), golden=golden)
    source = {"channels": 1, "height": None, "width": None, "multiple_of": 8, "halo": 8, "resize": "reject"}
    return publish_toy(
        models_dir, name=name, version=version, side=None, multiple_of=8, graphs=graphs, default_for=default_for,
        manifest_changes={"latent": None, "input": source, "compression": compression.model_dump()},
    )  # fmt: skip


def grid_tables(grid: Grid = GRID) -> tuple[SymbolTable, ...]:
    """The less there is around a place, the likelier is zero."""
    others = [symmetric_table(REACH, centre=TABLE_TOTAL >> context + 1) for context in range(grid.contexts)]
    return (symmetric_table(2 * REACH, centre=1000), *(others * (CHANNELS - 1)))


def symmetric_table(reach: int, *, centre: int) -> SymbolTable:
    """Zero with about that count, all others with the same."""
    each = (TABLE_TOTAL - centre) // (2 * reach)
    counts = [each] * (2 * reach + 1)
    counts[reach] = TABLE_TOTAL - 2 * reach * each
    return SymbolTable(first=-reach, counts=tuple(counts))
