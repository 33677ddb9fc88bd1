"""Size and PSNR of compressed small images, measured on real files with the exported graphs."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float32, Int32
from tqdm import tqdm

from service.contract.container import DIGEST_BYTES, Container, write_container
from service.contract.range_coder import pack_symbols, symbols_crc32, to_symbols, unpack_symbols
from service.contract.tables import Compression, RatePoint, digest_of
from training.measure.psnr import psnr_db
from training.measure.rate import Point

Images = Float32[np.ndarray, "image channel height width"]
Latents = Float32[np.ndarray, "image latent"]
Symbols = Int32[np.ndarray, "image latent"]
CHUNK = 500  # images at a time


class ServedCodec:
    """The two graphs of a model, and its tables once they are fitted.

    Args:
        directory: Directory with compress.onnx and decompress.onnx.
    """

    def __init__(self, directory: Path) -> None:
        content = (directory / "decompress.onnx").read_bytes()
        self.decoder_sha256 = hashlib.sha256(content).digest()
        providers = ["CPUExecutionProvider"]
        self._compress = onnxruntime.InferenceSession(directory / "compress.onnx", providers=providers)
        self._decompress = onnxruntime.InferenceSession(content, providers=providers)

    def latents(self, x: Images, rate: int) -> Latents:
        """Encode images at a rate; rounding the latents gives the symbols."""
        chunks = [
            self._compress.run(None, {"x": part, "rate": np.full(len(part), rate, np.float32)})[0]
            for part in np.split(x, range(CHUNK, len(x), CHUNK))
        ]
        y: Latents = np.concatenate(chunks)
        return y

    def images(self, symbols: Symbols, rate: int) -> Images:
        """Decode images from symbols."""
        rates = np.full(len(symbols), rate, np.float32)
        (x_hat,) = self._decompress.run(None, {"symbols": symbols.astype(np.float32), "rate": rates})
        made: Images = x_hat
        return made


def file_of(name: str, codec: ServedCodec, rates: tuple[RatePoint, ...], rate: int, symbols: Symbols) -> bytes:
    """Write the file as the service does for images of the model's size."""
    tables = bytes.fromhex(digest_of(rates))
    return write_container(
        Container(
            model=name,
            version=1,
            decoder=codec.decoder_sha256[:DIGEST_BYTES],
            tables=tables[:DIGEST_BYTES],
            rate=rate,
            count=len(symbols),
            sizes=(),
            symbols_crc32=symbols_crc32(symbols),
            payload=pack_symbols(symbols, rates[rate].tables),
        )
    )


def measure_rate(
    name: str, codec: ServedCodec, rates: tuple[RatePoint, ...], rate: int, x: Images, *, images_per_file: int
) -> Point:
    """Measure bytes per image with `images_per_file` images, and the PSNR over all pixels, rounded to bytes."""
    tables = rates[rate].tables
    symbols = to_symbols(codec.latents(x, rate), tables)
    size, squares = 0, 0.0
    for start in range(0, len(x), images_per_file):
        part, original = symbols[start : start + images_per_file], x[start : start + images_per_file]
        size += len(file_of(name, codec, rates, rate, part))
        read = unpack_symbols(pack_symbols(part, tables), len(part), tables)
        x_hat = np.rint(codec.images(read, rate) * 255.0) / 255.0
        squares += float(np.square(x_hat - original, dtype=np.float64).sum())
    return Point(size / len(x), psnr_db(max(squares / x.size, 1e-10)))


def measure_all(
    name: str, codec: ServedCodec, compression: Compression, x: Images, *, images_per_file: int, progress: bool
) -> list[Point]:
    """Measure a point per rate, fewest bytes first."""
    rates = range(len(compression.rates))
    return [
        measure_rate(name, codec, compression.rates, rate, x, images_per_file=images_per_file)
        for rate in tqdm(rates, desc="measure", unit="rate", disable=not progress)
    ]
