"""/compress and /decompress as jobs for a `Batcher`: the images of a request to one file, and a file to its images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from service.archive import Entry, write_zip
from service.contract.container import DIGEST_BYTES, Container, write_container
from service.contract.manifest import Manifest
from service.contract.range_coder import Symbols, pack_symbols, symbols_crc32, to_symbols, unpack_symbols
from service.contract.tables import Compression
from service.errors import (
    BrokenContainer,
    InvalidArray,
    InvalidParameter,
    OtherDecoder,
    RequestError,
    TooManyImages,
    TooManyPixels,
)
from service.http.negotiation import negotiate
from service.images.codec import encode_image
from service.images.image import Image, Pixels, to_levels
from service.images.npy import write_npy
from service.images.resize import plan_placement
from service.limits import InputLimits
from service.media_types import EXTENSION_BY_TYPE, HOURGLASS_TYPE, NPY_TYPE, ZIP_TYPE, ImageType
from service.models.batcher import Inputs, Outputs
from service.tasks import Answer, ImageInput, image_offers

_SMALL_PIXELS = 128 * 128


def compression_of(manifest: Manifest) -> Compression:
    """What a model that compresses says of it."""
    assert manifest.compression is not None  # noqa: S101  the manifest has it wherever it has the tasks
    return manifest.compression


def digests_of(manifest: Manifest) -> tuple[bytes, bytes]:
    """How files name the decoder and the tables of a model: the first bytes of their SHA-256."""
    sha256s = (manifest.tasks["decompress"].sha256, compression_of(manifest).tables_sha256)
    decoder, tables = (bytes.fromhex(sha256)[:DIGEST_BYTES] for sha256 in sha256s)
    return decoder, tables


def rate_of(manifest: Manifest, rate: int | None) -> int:
    """The rate that was asked for, or the model's default.

    Raises:
        InvalidParameter: The model has no such rate.
    """
    compression = compression_of(manifest)
    rate = compression.default_rate if rate is None else rate
    if rate >= len(compression.rates):
        points = enumerate(compression.rates)
        choices = ", ".join(f"{i} ({_size(p.bytes_per_image)} per image, {p.psnr_db:.3g} dB)" for i, p in points)
        raise InvalidParameter(f"rate is {rate}; {manifest.name!r} has {choices}")
    return rate


def _size(size: float) -> str:
    return f"{size:.3g} bytes" if size < 1000 else f"{size:,.0f} bytes"


@contextmanager
def numbered(file: int, files: int) -> Iterator[None]:
    """Of several files, puts the number of the one that fails into the problem."""
    try:
        yield
    except RequestError as error:
        if files == 1:
            raise
        raise type(error)(f"file {file}: {error.detail}", headers=error.headers, extra={"file": file}) from error


def check_count(images: int, limits: InputLimits) -> None:
    """Whether one request may have so many images.

    Raises:
        TooManyImages: It may not.
    """
    if images > limits.max_images:
        raise TooManyImages(
            f"the request has {images} images or more, the limit is {limits.max_images} (setting max_images)"
        )


@dataclass
class Compress:
    """Image files or arrays -> one file. `rate` is the index of a point, None for the model's default."""

    files: Sequence[bytes]
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    rate: int | None
    sizes: list[tuple[int, int]] = field(default_factory=list, init=False)
    resizes: set[str | None] = field(default_factory=set, init=False)

    @property
    def is_small(self) -> bool:
        """One small image."""
        return len(self.files) == 1 and self._input(self.files[0]).is_small

    def prepare(self) -> Inputs:
        """The images (N, C, H, W), and the rate of each.

        Raises:
            RequestError: One of the files cannot be read; of several, its number is in the problem.
        """
        negotiate(self.accept, [HOURGLASS_TYPE])
        self.rate = rate_of(self.manifest, self.rate)
        rows: list[Pixels] = []
        for i, data in enumerate(self.files):
            with numbered(i, len(self.files)):
                rows.append(self._read(data))
        x = np.concatenate(rows) if len(rows) > 1 else rows[0]
        return x, np.full(len(x), self.rate, np.float32)

    def finish(self, outputs: Outputs) -> Answer:
        (y,) = outputs
        assert self.rate is not None  # noqa: S101  set by `prepare`
        tables = compression_of(self.manifest).rates[self.rate].tables
        symbols = to_symbols(y, tables)
        decoder, tables_digest = digests_of(self.manifest)
        file = Container(
            model=self.manifest.name,
            version=self.manifest.version,
            decoder=decoder,
            tables=tables_digest,
            rate=self.rate,
            count=len(symbols),
            sizes=self._sizes_said(),
            symbols_crc32=symbols_crc32(symbols),
            payload=pack_symbols(symbols, tables),
        )
        resize = next(iter(self.resizes)) if len(self.resizes) == 1 else None
        return Answer(HOURGLASS_TYPE, write_container(file), resize=resize)

    def _input(self, data: bytes) -> ImageInput:
        return ImageInput(data, self.manifest, self.limits, self.accept)

    def _read(self, data: bytes) -> Pixels:
        source = self._input(data)
        x = source.read()
        self.sizes += [source.image.size] * len(x)
        self.resizes.add(source.placement.description)
        check_count(len(self.sizes), self.limits)
        return x

    def _sizes_said(self) -> tuple[tuple[int, int], ...]:
        sizes = said_sizes(self.sizes)
        return () if sizes == ((self.manifest.input.height, self.manifest.input.width),) else sizes


def said_sizes(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of all images, or one where they all have it."""
    return tuple(sizes) if len(set(sizes)) > 1 else (sizes[0],)


def check_file(file: Container, manifest: Manifest, limits: InputLimits) -> list[tuple[int, int]]:
    """The sizes of a file's images, if this model made it.

    Raises:
        OtherDecoder: The file is not of this decoder and these tables.
        BrokenContainer, TooManyPixels: With what is wrong.
    """
    compression = compression_of(manifest)
    decoder, tables = digests_of(manifest)
    for what, found, said in (("decoder", decoder, file.decoder), ("tables", tables, file.tables)):
        if found != said:
            raise OtherDecoder(
                f"the file was made by {file.model}/{file.version} with the {what} {said.hex()}, but here it has "
                f"{found.hex()}; put the version that made it back into models_dir"
            )
    if file.rate >= len(compression.rates):
        raise BrokenContainer(f"the file has the rate {file.rate}, its model has 0 to {len(compression.rates) - 1}")
    if (file.planes is None) != (compression.grid is None):
        raise BrokenContainer("the file has another version of the format than its model writes")
    height, width = manifest.input.height or 1, manifest.input.width or 1
    sizes = file.sizes or ((height, width),)
    sizes = sizes if len(sizes) == file.count else sizes * file.count
    pixels = sum(height * width for height, width in sizes)
    if pixels > max(limits.max_pixels, height * width):
        raise TooManyPixels(
            f"the file holds {file.count} images of {pixels} pixels together, the limit is "
            f"{limits.max_pixels} (setting max_pixels)"
        )
    return list(sizes)


def check_symbols(file: Container, *symbols: Symbols) -> None:
    """Whether they are those that were written.

    Raises:
        BrokenContainer: They are not.
    """
    if (found := symbols_crc32(*symbols)) != file.symbols_crc32:
        raise BrokenContainer(f"the symbols have CRC32 {found:08x}, the file says {file.symbols_crc32:08x}")


def image_type_of(file: Container, sizes: Sequence[tuple[int, int]], accept: str | None) -> str:
    """What the answer to a file will be.

    Raises:
        NotAcceptable, InvalidArray: It cannot be what was asked for.
    """
    media_type = negotiate(accept, image_offers(is_single=file.count == 1))
    if media_type == NPY_TYPE and len(set(sizes)) > 1:
        raise InvalidArray("the images differ in size, so they are no single array; ask for application/zip")
    return media_type


def encoded(x_hat: Pixels, media_type: str, quality: int) -> bytes:
    """One image (1, C, H, W) as a file; as PNG in a ZIP."""
    return encode_image(Image(to_levels(x_hat, np.uint8)), _kind_of(media_type), quality=quality)


def files_answer(files: Sequence[bytes], media_type: str) -> Answer:
    """The only file, or a ZIP of several."""
    if len(files) == 1:
        return Answer(media_type, files[0])
    extension = EXTENSION_BY_TYPE[_kind_of(media_type)]
    return Answer(ZIP_TYPE, write_zip([Entry(f"{i:03}.{extension}", file) for i, file in enumerate(files)]))


def array_answer(images: Sequence[Pixels]) -> Answer:
    """Images (1, C, H, W) of one size as an array: (C, H, W) of the only one."""
    return Answer(NPY_TYPE, write_npy(images[0][0] if len(images) == 1 else np.concatenate(images)))


def _kind_of(media_type: str) -> ImageType:
    return "image/png" if media_type == ZIP_TYPE else media_type  # type: ignore[return-value]  # one of image_offers


@dataclass
class Decompress:
    """A file -> its images: one as an image or array, several as a ZIP or one array."""

    file: Container
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    quality: int
    sizes: list[tuple[int, int]] = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """One image of 128x128 at most."""
        return self.file.count == 1 and all(height * width <= _SMALL_PIXELS for height, width in self.file.sizes)

    def prepare(self) -> Inputs:
        """The symbols (N, D), and the rate of each image.

        Raises:
            OtherDecoder: The file is not of this decoder and these tables.
            BrokenContainer, TooManyPixels, InvalidArray, NotAcceptable: With what is wrong.
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
