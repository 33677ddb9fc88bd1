"""/compress and /decompress as jobs for a `Batcher`: the images of a request to one file, and a file to its images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.archive import Entry, write_zip
from service.batching import Inputs, Outputs
from service.container import (
    DIGEST_BYTES,
    HOURGLASS_TYPE,
    Container,
    pack_symbols,
    symbols_crc32,
    to_symbols,
    unpack_symbols,
    write_container,
)
from service.errors import (
    BrokenContainer,
    InvalidArray,
    InvalidParameter,
    OtherDecoder,
    RequestError,
    TooManyImages,
    TooManyPixels,
)
from service.images import EXTENSION_BY_TYPE, ImageType, encode_image
from service.manifest import Compression, Manifest
from service.negotiation import negotiate
from service.pixels import Image, Pixels, to_levels
from service.placement import plan_placement
from service.tasks import ZIP_TYPE, Answer, ImageInput, InputLimits, image_offers
from service.tensors import NPY_TYPE, write_npy

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
        compression = compression_of(self.manifest)
        negotiate(self.accept, [HOURGLASS_TYPE])
        self.rate = compression.default_rate if self.rate is None else self.rate
        if self.rate >= len(compression.rates):
            raise InvalidParameter(f"rate is {self.rate}; {self.manifest.name!r} has {_choices(compression)}")
        rows: list[Pixels] = []
        for i, data in enumerate(self.files):
            try:
                rows.append(self._read(data))
            except RequestError as error:
                if len(self.files) == 1:
                    raise
                raise type(error)(f"file {i}: {error.detail}", headers=error.headers, extra={"file": i}) from error
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
        if len(self.sizes) > self.limits.max_images:
            raise TooManyImages(
                f"the request has {len(self.sizes)} images or more, the limit is {self.limits.max_images} "
                "(setting max_images)"
            )
        return x

    def _sizes_said(self) -> tuple[tuple[int, int], ...]:
        if len(set(self.sizes)) > 1:
            return tuple(self.sizes)
        size = self.sizes[0]
        return () if size == (self.manifest.input.height, self.manifest.input.width) else (size,)


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
        file, rates = self.file, compression_of(self.manifest).rates
        self._check_digests()
        if file.rate >= len(rates):
            raise BrokenContainer(f"the file has the rate {file.rate}, its model has 0 to {len(rates) - 1}")
        height, width = self.manifest.input.height or 1, self.manifest.input.width or 1
        sizes = file.sizes or ((height, width),)
        self.sizes = list(sizes) if len(sizes) == file.count else list(sizes) * file.count
        pixels = sum(height * width for height, width in self.sizes)
        if pixels > max(self.limits.max_pixels, height * width):
            raise TooManyPixels(
                f"the file holds {file.count} images of {pixels} pixels together, the limit is "
                f"{self.limits.max_pixels} (setting max_pixels)"
            )
        self.media_type = negotiate(self.accept, image_offers(is_single=file.count == 1))
        if self.media_type == NPY_TYPE and len(set(self.sizes)) > 1:
            raise InvalidArray("the images differ in size, so they are no single array; ask for application/zip")
        symbols = unpack_symbols(file.payload, file.count, rates[file.rate].tables)
        if (found := symbols_crc32(symbols)) != file.symbols_crc32:
            raise BrokenContainer(f"the symbols have CRC32 {found:08x}, the file says {file.symbols_crc32:08x}")
        return symbols.astype(np.float32), np.full(file.count, file.rate, np.float32)

    def finish(self, outputs: Outputs) -> Answer:
        (x_hat,) = outputs
        if self.media_type == NPY_TYPE:
            images = np.concatenate([self._restored(x_hat, i) for i in range(len(x_hat))])
            return Answer(NPY_TYPE, write_npy(images[0] if self.file.count == 1 else images))
        kind: ImageType = "image/png" if self.media_type == ZIP_TYPE else self.media_type  # type: ignore[assignment]
        files = [
            encode_image(Image(to_levels(self._restored(x_hat, i), np.uint8)), kind, quality=self.quality)
            for i in range(len(x_hat))
        ]
        if self.file.count == 1:
            return Answer(kind, files[0])
        extension = EXTENSION_BY_TYPE[kind]
        return Answer(ZIP_TYPE, write_zip([Entry(f"{i:03}.{extension}", file) for i, file in enumerate(files)]))

    def _check_digests(self) -> None:
        file = self.file
        decoder, tables = digests_of(self.manifest)
        for what, found, said in (("decoder", decoder, file.decoder), ("tables", tables, file.tables)):
            if found != said:
                raise OtherDecoder(
                    f"the file was made by {file.model}/{file.version} with the {what} {said.hex()}, but here it has "
                    f"{found.hex()}; put the version that made it back into models_dir"
                )

    def _restored(self, x_hat: Pixels, i: int) -> NDArray[np.float32]:
        image = plan_placement(self.manifest.input, *self.sizes[i]).restore(x_hat[i : i + 1])
        return np.clip(image, 0.0, 1.0)  # Lanczos overshoots


def _choices(compression: Compression) -> str:
    points = enumerate(compression.rates)
    return ", ".join(f"{i} ({p.bytes_per_image:.3g} bytes per image, {p.psnr_db:.3g} dB)" for i, p in points)
