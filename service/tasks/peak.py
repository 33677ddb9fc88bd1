"""Estimate the peak memory of a picture from the header of its file, before it is decoded.

    read   the file, the decoder, the values
    run    the file, the values, and the result of its tiles or all values as floats
    write  the file, the result, the encoder and what it has written

The bytes of decoders and encoders are columns of `FORMATS`.
"""

import math

from service.errors import NotAcceptable
from service.http.negotiation import negotiate
from service.images.codec import types_for
from service.images.formats import FORMAT_BY_NAME, FORMAT_BY_TYPE
from service.images.header import Header
from service.images.tiles import UNTILED_PIXELS
from service.limits import InputLimits
from service.media_types import NPY_TYPE

_FLOAT_BYTES = 4
_RUN_AS_FLOATS_BYTES = 8  # a value: as float, and resampled or drawn
_TILE_BYTES = 40  # a pixel of a tile: its window, planes and result as floats
_NPY_COPY = 9 / 8  # of an array: the file is copied from it, and its buffer grows by an eighth


def most_pixels(header: Header, limits: InputLimits, *, scale: int) -> int:
    """Return the most pixels of an image that runs in tiles: more for formats that are read in steps."""
    entry = FORMAT_BY_NAME.get(header.kind or "")
    return limits.max_tiled_pixels if entry is not None and entry.is_stepwise and scale == 1 else limits.max_pixels


def read_bytes(header: Header, pixels: int) -> int:
    """Return the bytes that reading a file takes at its peak, without the file."""
    entry = FORMAT_BY_NAME.get(header.kind or "")
    decoder_bytes = header.decoder_bytes + (entry.decoder_bytes if entry else 0)
    return math.ceil(pixels * (header.bytes_per_pixel + decoder_bytes))


def peak_bytes(header: Header, pixels: int, *, accept: str | None, scale: int, is_tiled: bool) -> int:
    """Return the bytes that a picture and its answer take at their peak, without the file.

    Args:
        header: Header of the file.
        pixels: Its pixels, or the most that the file can have.
        accept: The Accept header.
        scale: Factor by which the answer is larger.
        is_tiled: Whether it runs in tiles, and so is never held as floats.
    """
    values, answer, grown = pixels * header.bytes_per_pixel, answer_type(header, accept), pixels * scale**2
    if answer == NPY_TYPE:
        result = grown * header.channels * _FLOAT_BYTES
        written = math.ceil(result * _NPY_COPY)
        kept = 0 if is_tiled else values
    else:
        result = grown * header.bytes_per_pixel
        written = 0 if answer is None else math.ceil(grown * _encoder_bytes(header, answer))
        kept = values if has_alpha(header) or not is_tiled else 0  # a view of the values that were read
    run = result if is_tiled else pixels * header.channels * _RUN_AS_FLOATS_BYTES * scale**2
    tile = min(grown, UNTILED_PIXELS) * _TILE_BYTES if is_tiled else 0
    return tile + max(read_bytes(header, pixels), values + run, kept + result + written)


def _encoder_bytes(header: Header, answer: str) -> float:
    """Return the bytes a pixel that writing takes."""
    entry = FORMAT_BY_TYPE[answer]
    if has_alpha(header):
        return entry.alpha_encoder_bytes * header.depth
    return entry.encoder_bytes * max(1.0, header.bytes_per_pixel / 3)


def answer_type(header: Header, accept: str | None) -> str | None:
    """Return the media type that an answer with the picture will have, or None if nothing acceptable exists."""
    if header.kind == "NPY":
        offers = (NPY_TYPE, *types_for(False, header.is_colour, False, None))
    else:
        own = FORMAT_BY_NAME[header.kind].media_type if header.kind in FORMAT_BY_NAME else None
        offers = (*types_for(header.depth > 1, header.is_colour, has_alpha(header), own), NPY_TYPE)
    try:
        return negotiate(accept, offers)
    except NotAcceptable:
        return None


def has_alpha(header: Header) -> bool:
    """Return whether the picture may have transparency."""
    entry = FORMAT_BY_NAME.get(header.kind or "")
    return entry is not None and entry.has_alpha and header.channels in {2, 4}


def cures(header: Header, *, accept: str | None) -> str:
    """Return what would make a picture take less memory, for people."""
    answer = answer_type(header, accept)
    found = []
    if answer == NPY_TYPE:
        found.append("request an image instead of an array (Accept: image/png)")
    elif answer is not None and answer not in {"image/png", "image/jpeg"}:
        found.append("request PNG or JPEG (Accept: image/png, image/jpeg)")
    if header.decoder_bytes and header.kind == "JPEG":
        found.append("save it as a baseline JPEG, not a progressive one")
    if has_alpha(header):
        found.append("remove its transparency")
    if header.depth > 1 and header.kind != "NPY":
        found.append("send 8 bits")
    return ", or ".join([*found, "send it in parts"])
