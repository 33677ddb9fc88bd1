"""Compressed files, for both kinds of models: rates, digests, checks, and images as an answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np

from service.contract.container import DIGEST_BYTES, Container, write_container
from service.contract.manifest import Manifest
from service.contract.range_coder import Symbols, symbols_crc32
from service.contract.tables import CELL, Compression
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
from service.images.formats import extension_of
from service.images.image import Image, Pixels, to_levels
from service.images.npy import write_npy
from service.limits import InputLimits
from service.media_types import NPY_TYPE, ZIP_TYPE
from service.models.batcher import Batcher
from service.tasks.answer import Answer, Entry, image_offers, write_zip
from service.tasks.cost import Cost, cost_of_rows

# Cost of decoding symbols and writing the image, from `python -m benchmarks.reliability cost`.
_SECONDS_A_SYMBOL, _SECONDS_A_DIAGONAL = 75e-9, 12e-6


def compression_of(manifest: Manifest) -> Compression:
    """Return the compression section of a manifest."""
    assert manifest.compression is not None  # noqa: S101  required in a manifest with the tasks
    return manifest.compression


def digests_of(manifest: Manifest) -> tuple[bytes, bytes]:
    """Return the digests of decoder and tables as in files: the first bytes of their SHA-256."""
    sha256s = (manifest.tasks["decompress"].sha256, compression_of(manifest).tables_sha256)
    decoder, tables = (bytes.fromhex(sha256)[:DIGEST_BYTES] for sha256 in sha256s)
    return decoder, tables


def rate_of(manifest: Manifest, rate: int | None) -> int:
    """Return the index of the requested rate, or of the model's default for None.

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
    """Add the number of a file to its problem, if there are several files."""
    try:
        yield
    except RequestError as error:
        if files == 1:
            raise
        raise type(error)(f"file {file}: {error.detail}", headers=error.headers, extra={"file": file}) from error


def check_count(images: int, limits: InputLimits) -> None:
    """Check that a request has at most `max_images` images.

    Raises:
        TooManyImages: The request has more.
    """
    if images > limits.max_images:
        raise TooManyImages(
            f"the request has {images} images or more, the limit is {limits.max_images} (setting max_images)"
        )


def said_sizes(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the sizes of all images as they are written to a file: a single one if they are equal."""
    return tuple(sizes) if len(set(sizes)) > 1 else (sizes[0],)


def write_file(
    manifest: Manifest,
    rate: int,
    sizes: tuple[tuple[int, int], ...],
    payload: bytes,
    symbols: Sequence[Symbols],
    *,
    count: int,
    planes: Literal[1, 3] | None = None,
) -> bytes:
    """Write the file of a request's images.

    Args:
        manifest: Manifest of the model.
        rate: Index of the rate.
        sizes: Height and width of each image, a single entry if they are equal, none for the model's own size.
        payload: Coded symbols.
        symbols: Symbols in `payload`, for their checksum.
        count: Number of images.
        planes: Planes of each image, for models with a grid of symbols.
    """
    decoder, tables = digests_of(manifest)
    return write_container(
        Container(
            model=manifest.name,
            version=manifest.version,
            decoder=decoder,
            tables=tables,
            rate=rate,
            count=count,
            sizes=sizes,
            symbols_crc32=symbols_crc32(*symbols),
            payload=payload,
            planes=planes,
        )
    )


def check_file(file: Container, manifest: Manifest, limits: InputLimits) -> list[tuple[int, int]]:
    """Check that this model can read a file, and return height and width of each image.

    Raises:
        OtherDecoder: The file was made for another decoder or other tables.
        BrokenContainer: The rate or format version of the file is not one of the model.
        TooManyPixels: The images have more pixels than the limit.
    """
    compression = compression_of(manifest)
    decoder, tables = digests_of(manifest)
    for what, found, said in (("decoder", decoder, file.decoder), ("tables", tables, file.tables)):
        if found != said:
            raise OtherDecoder(
                f"the file was made by {file.model}/{file.version} with the {what} {said.hex()}, but here it has "
                f"{found.hex()}; restore the version that made it in models_dir"
            )
    if file.rate >= len(compression.rates):
        raise BrokenContainer(f"the file has the rate {file.rate}, its model has 0 to {len(compression.rates) - 1}")
    if (file.planes is None) != (compression.grid is None):
        raise BrokenContainer("the file has another version of the format than its model writes")
    height, width = manifest.input.height or 1, manifest.input.width or 1
    sizes = file.sizes or ((height, width),)
    sizes = sizes if len(sizes) == file.count else sizes * file.count
    if compression.grid is None:
        pixels = sum(height * width for height, width in sizes)
    else:  # slivers grow much when they are padded to whole cells
        pixels = sum(-(-h // CELL) * -(-w // CELL) * CELL**2 for h, w in sizes)
    if pixels > max(limits.max_pixels, height * width):
        raise TooManyPixels(
            f"the file holds {file.count} images of {pixels} pixels together, the limit is "
            f"{limits.max_pixels} (setting max_pixels)"
        )
    return list(sizes)


def cost_of_file(file: Container, manifest: Manifest, batcher: Batcher, limits: InputLimits) -> Cost:
    """Return the cost of decompressing a file.

    Raises:
        RequestError: See `check_file`.
    """
    sizes = check_file(file, manifest, limits)
    planes = file.planes or manifest.input.channels
    values = planes * sum(-(-h // CELL) * -(-w // CELL) * CELL**2 for h, w in sizes)
    latent = manifest.tasks["decompress"].inputs[0].shape[1]
    numbers = values if file.planes else file.count * (latent if isinstance(latent, int) else 1)
    cost = cost_of_rows(1, numbers, values, batcher)
    if not file.planes:
        return cost
    diagonals = planes * sum(-(-h // CELL) + -(-w // CELL) for h, w in sizes)  # many for slivers
    return Cost(cost.bytes, cost.seconds + values * _SECONDS_A_SYMBOL + diagonals * _SECONDS_A_DIAGONAL)


def check_symbols(file: Container, *symbols: Symbols) -> None:
    """Check decoded symbols against the checksum of the file.

    Raises:
        BrokenContainer: The checksum differs.
    """
    if (found := symbols_crc32(*symbols)) != file.symbols_crc32:
        raise BrokenContainer(f"the symbols have CRC32 {found:08x}, the file says {file.symbols_crc32:08x}")


def image_type_of(file: Container, sizes: Sequence[tuple[int, int]], accept: str | None) -> str:
    """Return the media type of the answer.

    Args:
        file: The compressed file.
        sizes: Height and width of each image.
        accept: The `Accept` header.

    Raises:
        NotAcceptable: No offered media type is accepted.
        InvalidArray: An array is requested, but the images differ in size.
    """
    media_type = negotiate(accept, image_offers(is_single=file.count == 1))
    if media_type == NPY_TYPE and len(set(sizes)) > 1:
        raise InvalidArray("the images differ in size, so they do not fit one array; request application/zip")
    return media_type


def encoded(x_hat: Pixels, media_type: str, quality: int) -> bytes:
    """Encode one image (1, C, H, W); as PNG for a ZIP archive."""
    return encode_image(Image(to_levels(x_hat, np.uint8)), _picture_type(media_type), quality=quality)


def files_answer(files: Sequence[bytes], media_type: str) -> Answer:
    """Return a single file unchanged, or a ZIP archive of several."""
    if len(files) == 1:
        return Answer(media_type, files[0])
    extension = extension_of(_picture_type(media_type))
    return Answer(ZIP_TYPE, write_zip([Entry(f"{i:03}.{extension}", file) for i, file in enumerate(files)]))


def array_answer(images: Sequence[Pixels]) -> Answer:
    """Stack images (1, C, H, W) of one size to an array (N, C, H, W), or (C, H, W) for a single one."""
    return Answer(NPY_TYPE, write_npy(images[0][0] if len(images) == 1 else np.concatenate(images)))


def _picture_type(media_type: str) -> str:
    return "image/png" if media_type == ZIP_TYPE else media_type
