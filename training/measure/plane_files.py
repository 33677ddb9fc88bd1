"""Size and PSNR of compressed photographs, measured on real files that are written and read again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float32, Int32, UInt8
from tqdm import tqdm

from service.contract.colour import Plane, from_planes, sizes_of_planes, to_planes
from service.contract.container import DIGEST_BYTES, Container, write_container
from service.contract.plane_coder import Symbols, clip_grid, pack_grids, unpack_grids
from service.contract.range_coder import symbols_crc32
from service.contract.tables import CELL, Grid, RatePoint, Tables
from training.architectures.lapped import Compress, Decompress, LappedAutoencoder
from training.errors import VerifyError
from training.images.pixels import to_bytes
from training.measure.psnr import psnr_db
from training.measure.rate import Point

OFFSET = 3  # pixels from the corner: photographs were JPEGs, whose blocks the measured ones shall not share
QUALITIES = {  # of the others, closer together than for digits
    "JPEG": range(3, 97, 3),
    "WebP": range(0, 100, 4),
    "AVIF": range(8, 90, 5),
    "JPEG XL": range(2, 96, 6),
}

Photo = UInt8[np.ndarray, "_ _ _"]
Graph = Callable[[Float32[np.ndarray, "1 _ _ _"], Float32[np.ndarray, "1"]], Float32[np.ndarray, "1 _ _ _"]]


@dataclass(frozen=True)
class PlaneCodec:
    """Both graphs of a model: functions of a plane and a rate, and of symbols and a rate."""

    compress: Graph
    decompress: Graph
    rates: int

    def symbols(self, photo: Photo, rate: int, tables: Sequence[Tables] = ()) -> list[Symbols]:
        """Return the symbols of the photograph's planes, (64, rows, columns) each.

        If `tables` are given, symbols are clipped to their ranges.
        """
        made = []
        for number, plane in enumerate(to_planes(photo.astype(np.float32) / np.float32(255))):
            padding = [(0, -side % CELL) for side in plane.shape]
            x = np.pad(plane, padding, mode="reflect")[None, None]
            y = self.compress(x, self._index(rate, number))[0]
            made.append(clip_grid(y, tables[number]) if tables else np.rint(y).astype(np.int32))
        return made

    def photo(self, symbols: Sequence[Symbols], size: tuple[int, int], rate: int) -> Photo:
        """Decode a photograph from its symbols, rounded to bytes."""
        planes: list[Plane] = []
        for number, (grid, shape) in enumerate(zip(symbols, sizes_of_planes(*size, len(symbols)), strict=True)):
            x_hat = self.decompress(grid[None].astype(np.float32), self._index(rate, number))
            planes.append(x_hat[0, 0, : shape[0], : shape[1]])
        drawn: Photo = np.rint(np.clip(from_planes(planes), 0.0, 1.0) * 255.0).astype(np.uint8)
        return drawn

    def _index(self, rate: int, plane: int) -> Float32[np.ndarray, "1"]:
        return np.full(1, rate + (self.rates if plane else 0), np.float32)


def served_codec(directory: Path, rates: int) -> PlaneCodec:
    """Open the graphs of a directory with onnxruntime, in as many threads as PyTorch uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()

    def graph(name: str, first: str) -> Graph:
        session = onnxruntime.InferenceSession(directory / f"{name}.onnx", options, providers=["CPUExecutionProvider"])

        def run(x: np.ndarray, rate: np.ndarray) -> np.ndarray:
            answer: np.ndarray = session.run(None, {first: x, "rate": rate})[0]
            return answer

        return run

    return PlaneCodec(graph("compress", "x"), graph("decompress", "symbols"), rates)


def torch_codec(network: LappedAutoencoder) -> PlaneCodec:
    """Wrap a PyTorch network as a codec, before its export."""

    def graph(module: torch.nn.Module) -> Graph:
        @torch.no_grad()
        def run(x: np.ndarray, rate: np.ndarray) -> np.ndarray:
            answer: np.ndarray = module(torch.from_numpy(x), torch.from_numpy(rate)).numpy()
            return answer

        return run

    return PlaneCodec(graph(Compress(network)), graph(Decompress(network)), len(network.steps) // 2)


def unaligned(photo: torch.Tensor) -> Photo:
    """Crop the first rows and columns, so that the codec's blocks are not aligned with those of an earlier JPEG."""
    cut: Photo = np.ascontiguousarray(to_bytes(photo).numpy()[:, OFFSET:, OFFSET:])
    return cut


def measure_rate(
    codec: PlaneCodec, point: RatePoint, grid: Grid, photos: Sequence[Photo], *, name: str, rate: int
) -> Point:
    """Measure bytes per photograph, header included, and the PSNR over all pixels and channels.

    The header includes `name`, the model name.

    Raises:
        VerifyError: A file read differs from the file written.
    """
    size, squares = 0, 0.0
    for photo in photos:
        tables = point.tables_of_planes(3 if len(photo) == 3 else 1)
        symbols = codec.symbols(photo, rate, tables)
        payload = pack_grids(list(zip(symbols, tables, strict=True)), grid)
        read = unpack_grids(payload, [(s.shape[1], s.shape[2]) for s in symbols], tables, grid)
        if not all(np.array_equal(a, b) for a, b in zip(read, symbols, strict=True)):
            raise VerifyError(f"rate {rate}: what was read is not what was written")
        shape = (photo.shape[1], photo.shape[2])
        size += len(file_of(name, rate, symbols, shape, payload))
        squares += float(np.square(codec.photo(read, shape, rate) / 255.0 - photo / 255.0).sum())
    return Point(size / len(photos), psnr_db(max(squares / sum(photo.size for photo in photos), 1e-10)))


def measure_all(
    codec: PlaneCodec,
    points: Sequence[RatePoint],
    grid: Grid,
    photos: Sequence[Photo],
    *,
    name: str,
    what: str,
    progress: bool,
) -> list[Point]:
    """Measure a point per rate, fewest bytes first."""
    return [
        measure_rate(codec, point, grid, photos, name=name, rate=rate)
        for rate, point in enumerate(tqdm(points, desc=what, unit="rate", disable=not progress))
    ]


def file_of(
    name: str, rate: int, symbols: Sequence[Int32[np.ndarray, "_ _ _"]], size: tuple[int, int], payload: bytes
) -> bytes:
    """Write the file as the service does for the model `name`, with empty digests."""
    none = bytes(DIGEST_BYTES)
    return write_container(
        Container(
            model=name, version=1, decoder=none, tables=none, rate=rate, count=1, sizes=(size,),
            symbols_crc32=symbols_crc32(*symbols), payload=payload, planes=3 if len(symbols) == 3 else 1,
        )
    )  # fmt: skip
