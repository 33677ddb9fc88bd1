"""Ten fixed jobs of a service: each some milliseconds of work of a request."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from benchmarks.samples import picture
from service.contract.manifest import InputSpec
from service.contract.range_coder import pack_symbols, unpack_symbols
from service.contract.tables import TABLE_TOTAL, SymbolTable
from service.errors import RequestError
from service.http.encoding import write_json
from service.images.codec import decode_image
from service.images.npy import read_npy_image, write_npy
from service.images.png import write_png
from service.images.resize import resample
from service.images.tiles import padded_window, plan
from service.models.batcher import Batcher
from service.models.job import Outputs
from service.models.session import Floats
from service.tasks.anomaly.regions import find_regions
from service.tasks.anomaly.thresholds import p_value
from service.tasks.latents import read_json_latents

decode = partial(decode_image, max_pixels=25_000_000, max_frames=1)
HAZELNUT = ROOT / "tests" / "data" / "hazelnut.jpg"
SIDE = 256  # pixels of a part
LATENTS, DIM = 200, 32
BATCH, BATCHES = 16, 20


def jobs() -> dict[str, Callable[[], object]]:
    """Return a function for each job by name; their inputs are prepared beforehand."""
    rng = np.random.default_rng(0)
    planes = picture(SIDE, 3)
    png, jpeg, x = write_png(planes), Path(HAZELNUT).read_bytes(), (planes / np.float32(255))[None]
    large = rng.random((1, 3, 384, 512), np.float32)
    z = rng.standard_normal((LATENTS, DIM), np.float32)
    latents = write_json({"latents": z})
    scores = np.sort(rng.random(5000)).tolist()
    y, x_axis = np.mgrid[:SIDE, :SIDE] / SIDE
    anomaly_map = (0.5 + 0.5 * np.sin(25 * x_axis) * np.cos(19 * y)).astype(np.float32)
    symbols = rng.binomial(40, 0.5, (500, DIM)).astype(np.int32)
    tables = [SymbolTable(first=0, counts=_counts(41))] * DIM
    packed = pack_symbols(symbols, tables)
    return {
        "decode a PNG": lambda: decode(png),
        "decode a JPEG": lambda: decode(jpeg),
        "encode a PNG": lambda: write_png(planes),
        "resize": lambda: resample(large, SIDE // 2, SIDE // 2),
        "cut tiles": lambda: _cut(large),
        "batch": lambda: asyncio.run(_batches()),
        "JSON": lambda: write_json({"latents": read_json_latents(
            latents, dim=DIM, max_latents=LATENTS, model="m", version=1)[0]}),
        "NPY": lambda: read_npy_image(write_npy(x), max_pixels=SIDE * SIDE, max_images=1),
        "p-values and regions": lambda: (
            [p_value(score, scores) for score in scores[::5]], find_regions(anomaly_map, level=0.8)
        ),
        "range coder": lambda: (pack_symbols(symbols, tables), unpack_symbols(packed, len(symbols), tables)),
    }  # fmt: skip


def _counts(symbols: int) -> tuple[int, ...]:
    """Return a frequency table with its peak in the middle."""
    near = [1 + 3000 // (1 + (i - symbols // 2) ** 2) for i in range(symbols)]
    near[symbols // 2] += TABLE_TOTAL - sum(near)
    return tuple(near)


def _cut(x: Floats) -> list[Floats]:
    """Cut an image into tiles of 128 pixels with a halo of 24."""
    spec = InputSpec(channels=3, height=None, width=None, multiple_of=8, halo=24, resize="exact")
    height, width = x.shape[2:]
    return [
        np.ascontiguousarray(
            padded_window(x[..., rows.left : rows.right, columns.left : columns.right], rows, columns, height, width)
        )
        for rows, columns in plan(height, width, spec, tile=SIDE // 2)
    ]


@dataclass(frozen=True)
class _Digit:
    """A job without decoding or encoding, to count the batcher alone."""

    x: Floats
    is_small: bool = True

    def prepare(self) -> Floats:
        return self.x

    def finish(self, outputs: Outputs) -> float:
        return float(outputs[0][0, 0, 0, 0])


async def _batches() -> list[float | RequestError]:
    batcher = Batcher(lambda x: (x,), max_batch=BATCH, max_pixels=10**9, name="guard")
    digits = [_Digit(np.zeros((1, 1, 28, 28), np.float32))] * BATCH
    for _ in range(BATCHES):
        answers = await batcher.submit(digits)
    return answers
