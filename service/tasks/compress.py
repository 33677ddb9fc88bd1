"""/compress and /decompress as jobs for a `Batcher`, for models of one size."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.contract.container import Container
from service.contract.manifest import Manifest
from service.contract.range_coder import pack_symbols, to_symbols, unpack_symbols
from service.http.negotiation import negotiate
from service.images.image import Pixels
from service.images.inspect import ImageFile
from service.images.resize import plan_placement
from service.limits import InputLimits
from service.media_types import HOURGLASS_TYPE, NPY_TYPE
from service.models.job import Inputs, Outputs
from service.tasks.answer import Answer
from service.tasks.compress_photo import CompressPlanes, DecompressPlanes
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
from service.tasks.image_input import ImageInput
from service.tasks.work import OneJob, Work

_SMALL_PIXELS = 128 * 128


@dataclass
class Compress(OneJob):
    """Compress image files or arrays to one file. `rate` is an index of the model's rates, None for its default."""

    files: Sequence[ImageFile]
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    rate: int | None
    sizes: list[tuple[int, int]] = field(default_factory=list, init=False)
    resizes: set[str | None] = field(default_factory=set, init=False)

    @property
    def is_small(self) -> bool:
        """Whether it is one small image."""
        return len(self.files) == 1 and self._input(self.files[0]).is_small

    def prepare(self) -> Inputs:
        """Return the images (N, C, H, W), and the rate of each, (N,).

        Raises:
            RequestError: A file cannot be read. With several files, the problem has its number.
        """
        negotiate(self.accept, [HOURGLASS_TYPE])
        self.rate = rate_of(self.manifest, self.rate)
        rows: list[Pixels] = []
        for i, file in enumerate(self.files):
            with numbered(i, len(self.files)):
                rows.append(self._read(file))
        x = np.concatenate(rows) if len(rows) > 1 else rows[0]
        return x, np.full(len(x), self.rate, np.float32)

    def finish(self, outputs: Outputs) -> Answer:
        (y,) = outputs
        assert self.rate is not None  # noqa: S101  set by `prepare`
        tables = compression_of(self.manifest).rates[self.rate].tables
        symbols = to_symbols(y, tables)
        file = write_file(
            self.manifest, self.rate, self._sizes_said(), pack_symbols(symbols, tables), [symbols], count=len(symbols)
        )
        resize = next(iter(self.resizes)) if len(self.resizes) == 1 else None
        return Answer(HOURGLASS_TYPE, file, resize=resize)

    def _input(self, file: ImageFile) -> ImageInput:
        return ImageInput(file, self.manifest, self.limits, self.accept)

    def _read(self, file: ImageFile) -> Pixels:
        source = self._input(file)
        x = source.read()
        self.sizes += [source.image.size] * len(x)
        self.resizes.add(source.placement.description)
        check_count(len(self.sizes), self.limits)
        return x

    def _sizes_said(self) -> tuple[tuple[int, int], ...]:
        sizes = said_sizes(self.sizes)
        return () if sizes == ((self.manifest.input.height, self.manifest.input.width),) else sizes


@dataclass
class Decompress(OneJob):
    """Decompress a file to its images: one as an image or array, several as a ZIP archive or array."""

    file: Container
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    quality: int
    sizes: list[tuple[int, int]] = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """Whether the file holds one image of at most 128x128 pixels."""
        return self.file.count == 1 and all(height * width <= _SMALL_PIXELS for height, width in self.file.sizes)

    def prepare(self) -> Inputs:
        """Return the symbols (N, D), and the rate of each image, (N,).

        Raises:
            OtherDecoder: The file was made for another decoder or other tables.
            BrokenContainer: The file is damaged.
            TooManyPixels: The images have more pixels than the limit.
            InvalidArray, NotAcceptable: See `image_type_of`.
        """
        file = self.file
        self.sizes = check_file(file, self.manifest, self.limits)
        self.media_type = image_type_of(file, self.sizes, self.accept)
        symbols = unpack_symbols(file.payload, file.count, compression_of(self.manifest).rates[file.rate].tables)
        check_symbols(file, symbols)
        return symbols.astype(np.float32), np.full(file.count, file.rate, np.float32)

    def finish(self, outputs: Outputs) -> Answer:
        (x_hat,) = outputs
        images = [self._restored(x_hat, i) for i in range(len(x_hat))]
        if self.media_type == NPY_TYPE:
            return array_answer(images)
        return files_answer([encoded(image, self.media_type, self.quality) for image in images], self.media_type)

    def _restored(self, x_hat: Pixels, i: int) -> Pixels:
        image = plan_placement(self.manifest.input, *self.sizes[i]).restore(x_hat[i : i + 1])
        return np.clip(image, 0.0, 1.0)  # Lanczos overshoots


def compressor(
    files: Sequence[ImageFile],
    manifest: Manifest,
    limits: InputLimits,
    accept: str | None,
    *,
    rate: int | None,
) -> Work:
    """Return the work that compresses all files of a request to one file."""
    if manifest.input.height is None:
        return CompressPlanes(files, manifest, limits, accept, rate)
    return Compress(files, manifest, limits, accept, rate)


def decompressor(
    file: Container,
    manifest: Manifest,
    limits: InputLimits,
    accept: str | None,
    *,
    quality: int,
) -> Work:
    """Return the work that decompresses a file."""
    if manifest.input.height is None:
        return DecompressPlanes(file, manifest, limits, accept, quality)
    return Decompress(file, manifest, limits, accept, quality)
