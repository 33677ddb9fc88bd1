"""Estimate memory and CPU time of a request from the headers of its files."""

from collections.abc import Sequence
from typing import NamedTuple

from service.contract.manifest import Manifest
from service.errors import TooManyPixels
from service.images.header import Header
from service.images.inspect import ImageFile
from service.images.tiles import seen_pixels
from service.limits import InputLimits
from service.media_types import JSON_TYPE
from service.models.batcher import Batcher
from service.tasks.peak import cures, most_pixels, peak_bytes, read_bytes

_LESS = "send less"  # a cure that always helps
# Measured by `python -m benchmarks.reliability cost`: decoding and encoding of flat and busy images.
_SECONDS_A_VALUE = 18e-9
# Of a value that is decoded, held as float, resampled and encoded: for small pictures, and for those that are made.
_BYTES_A_VALUE = 9
_SMALL_PIXELS = 2**18  # of a picture of 2 MiB of values: to find out more costs more than it is worth
_MOST_PIXELS_A_BYTE = 8 * 1032  # one-bit pixels, at the largest ratio of deflate


class Cost(NamedTuple):
    """Largest memory of a request in bytes, its CPU time in seconds, and what would make it smaller."""

    bytes: int = 0
    seconds: float = 0.0
    cure: str = _LESS


def cost_of_pictures(
    files: Sequence[ImageFile],
    manifest: Manifest,
    batcher: Batcher,
    limits: InputLimits,
    *,
    accept: str | None = JSON_TYPE,
    scale: int = 1,
    passes: int = 1,
    is_luma_only: bool = False,
    is_tiled: bool = False,
) -> Cost:
    """Return the cost of running files through a graph.

    Args:
        files: Image files or arrays.
        manifest: Manifest of the model.
        batcher: Batcher of the graph.
        limits: Limits of the request; `max_pixels` applies to all files together.
        accept: The Accept header, if the answer is the picture.
        scale: Factor by which the graph enlarges.
        passes: Number of runs per pixel.
        is_luma_only: Whether only the luma of colour images runs.
        is_tiled: Whether the image runs in tiles and is never held as floats.

    Raises:
        TooManyPixels: The files together exceed `max_pixels`.
    """
    pixels = numbers = values = sizes = held = 0
    for file in files:  # once: for a small file, several sums would cost as much as its graph
        header = file.header
        sizes += len(file.data)
        known = header.pixels or 0
        pixels += known
        most = most_pixels(header, limits, scale=scale) if is_tiled else limits.max_pixels
        if known > most:  # refused when it is read
            continue
        numbers += _numbers(header, manifest, scale=scale, is_luma_only=is_luma_only)
        own = known or _pixels(file, limits)
        decoded = own * header.bytes_per_pixel
        values += decoded
        if own <= _SMALL_PIXELS:
            held += decoded * _BYTES_A_VALUE * scale**2
        else:
            held += peak_bytes(header, own, accept=accept, scale=scale, is_tiled=is_tiled)
    if len(files) > 1 and pixels > limits.max_pixels:
        raise TooManyPixels(
            f"the {len(files)} files of the request have {pixels} pixels together, the limit is {limits.max_pixels} "
            "(setting max_pixels); send them in several requests"
        )
    return Cost(
        bytes=sizes + held,
        seconds=batcher.expected_s(numbers * passes) + values * (1 + scale**2) * _SECONDS_A_VALUE,
        cure=cures(files[0].header, accept=accept) if len(files) == 1 and pixels > _SMALL_PIXELS else _LESS,
    )


def cost_of_reading(files: Sequence[ImageFile], limits: InputLimits) -> Cost:
    """Return the cost of decoding and checking files one after another, without running a graph."""
    values = [_pixels(file, limits) * file.header.bytes_per_pixel for file in files]
    return Cost(
        sum(len(file.data) for file in files)
        + max((read_bytes(file.header, _pixels(file, limits)) for file in files), default=0),
        sum(values) * _SECONDS_A_VALUE,
    )


def cost_of_rows(rows: int, numbers: int, values: int, batcher: Batcher) -> Cost:
    """Return the cost of decoding latents or tensors to images.

    Args:
        rows: Number of latents or tensors.
        numbers: Number of input values in each.
        values: Number of values in each image.
        batcher: Batcher of the graph.
    """
    return Cost(rows * (4 * numbers + _BYTES_A_VALUE * values), batcher.expected_s(rows * numbers))


def cost_of_drawing(images: int, manifest: Manifest, batcher: Batcher) -> Cost:
    """Return the cost of decoding latents to images, by a model of one size."""
    source, dim = manifest.input, manifest.latent.dim if manifest.latent else 1
    return cost_of_rows(images, dim, source.channels * (source.height or 1) * (source.width or 1), batcher)


def _pixels(file: ImageFile, limits: InputLimits) -> int:
    """Return the number of pixels of a file; if its header has no size, the most that its bytes can hold."""
    header = file.header
    if header.pixels is not None or header.kind is None:
        return header.pixels or 0
    return min(limits.max_pixels, _MOST_PIXELS_A_BYTE * len(file.data))


def _numbers(header: Header, manifest: Manifest, *, scale: int, is_luma_only: bool) -> int:
    """Return the number of input values of the graph for an image."""
    source = manifest.input
    if source.height is not None and source.width is not None:
        return header.images * source.channels * source.height * source.width
    seen = seen_pixels(header.height or 1, header.width or 1, source, scale=scale)  # slivers may grow much when padded
    planes = 3 if header.is_colour else 1
    return header.images * seen * (1 if is_luma_only else max(source.channels, planes))
