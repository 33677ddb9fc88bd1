"""The image formats. To add one, write its guard in `guards/` and its entry here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.images.guards import avif, bmp, gif, heic, jpeg, png, tiff, webp
from service.images.header import Header
from service.images.outline import Outline

_FULL_CHROMA_QUALITY = 90
_NO_LIMIT = 2**31 - 1

Options = Mapping[str, int | bool | str]


@dataclass(frozen=True)
class Format:
    """One image format: how a file is recognised, checked and written.

    Attributes:
        name: Pillow's name of the format, such as "PNG".
        media_type: Media type in `Content-Type` and `Accept`.
        extensions: File name extensions; answers use the first.
        magic: Pattern of a file's first bytes.
        peek: Reads the header of a file, in bounded time.
        walk: Checks a whole file before it is decoded.
        options: Returns the options of Pillow's `save` for a quality of 1 to 100; None if the format is read-only.
        animation: Options of Pillow's `save` for several frames; None if the format holds a single one.
        longest_side: Largest height or width, in pixels.
        has_alpha: Whether the format keeps transparency.
        has_16_bits: Whether it keeps 16-bit grey.
        has_deep_colour: Whether it keeps 16-bit RGB.
        decoder_bytes: Bytes a pixel that reading takes at its peak, in addition to the values.
        encoder_bytes: Bytes a pixel of 8-bit RGB that writing takes at its peak, with the file, in addition to the
            values. These are measured by `python -m benchmarks.reliability memory`.
        alpha_encoder_bytes: The same of RGB with transparency.
        is_stepwise: Whether other threads run while it is decoded, so that a picture may have `max_tiled_pixels`.
    """

    name: str
    media_type: str
    extensions: tuple[str, ...]
    magic: re.Pattern[bytes]
    peek: Callable[[bytes], Header]
    walk: Callable[[bytes], Outline]
    options: Callable[[int], Options] | None = None
    animation: Options | None = None
    longest_side: int = _NO_LIMIT
    has_alpha: bool = True
    has_16_bits: bool = False
    has_deep_colour: bool = False
    decoder_bytes: int = 5
    encoder_bytes: int = 0
    alpha_encoder_bytes: int = 0
    is_stepwise: bool = False


def _jpeg_options(quality: int) -> Options:
    return {"quality": quality, "subsampling": 0 if quality >= _FULL_CHROMA_QUALITY else 2}  # 4:4:4 or 4:2:0


# The major brand is AVIF's, or is one that HEIC has, too, and AVIF's is among the compatible brands.
_AVIF_BRANDS = re.compile(rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,16}?avi[fs])", re.DOTALL)

_HEIC_BRANDS = re.compile(rb".{4}ftyp(?:he(?:i[csmx]|v[cx])|m[is]f1.{4}(?:.{4}){0,16}?hei[csmx])", re.DOTALL)

FORMATS = (
    Format(
        "PNG", "image/png", ("png", "apng"), re.compile(re.escape(png.SIGNATURE)), png.peek, png.walk,
        options=lambda _: {"compress_level": 1}, has_16_bits=True, has_deep_colour=True,
        encoder_bytes=6, alpha_encoder_bytes=8, is_stepwise=True,
    ),
    Format(
        "JPEG", "image/jpeg", ("jpg", "jpeg", "jfif"), re.compile(rb"\xff\xd8\xff"), jpeg.peek, jpeg.walk,
        options=_jpeg_options, longest_side=65_500, has_alpha=False, encoder_bytes=7, is_stepwise=True,
    ),
    Format(
        "WEBP", "image/webp", ("webp",), re.compile(rb"RIFF.{4}WEBP", re.DOTALL), webp.peek, webp.walk,
        options=lambda quality: {"quality": quality, "method": 2}, animation={"lossless": True, "method": 2},
        longest_side=16_383, decoder_bytes=15, encoder_bytes=12, alpha_encoder_bytes=42,
    ),
    Format(
        "TIFF", "image/tiff", ("tiff", "tif"), re.compile(rb"II[*+]\0|MM\0[*+]"), tiff.peek, tiff.walk,
        options=lambda _: {"compression": "tiff_adobe_deflate"}, has_16_bits=True,
        encoder_bytes=10, alpha_encoder_bytes=12,
    ),
    Format("GIF", "image/gif", ("gif",), re.compile(rb"GIF8[79]a"), gif.peek, gif.walk, animation={}),
    Format("BMP", "image/bmp", ("bmp",), re.compile(rb"BM"), bmp.peek, bmp.walk),
    Format("AVIF", "image/avif", ("avif", "avifs"), _AVIF_BRANDS, avif.peek, avif.walk, decoder_bytes=14),
    Format("HEIF", "image/heic", ("heic", "heif"), _HEIC_BRANDS, heic.peek, heic.walk, decoder_bytes=14),
)  # fmt: skip
FORMAT_BY_NAME = {entry.name: entry for entry in FORMATS}
FORMAT_BY_TYPE = {entry.media_type: entry for entry in FORMATS}
PICTURE_TYPES = tuple(entry.media_type for entry in FORMATS if entry.options)  # media types of answers, best first
ANIMATION_TYPES = tuple(entry.media_type for entry in FORMATS if entry.animation is not None)
EXTENSIONS = frozenset(extension for entry in FORMATS for extension in entry.extensions)  # of file names


def format_of(data: bytes) -> Format | None:
    """Return the format that the first bytes of a file match, or None."""
    return next((entry for entry in FORMATS if entry.magic.match(data)), None)


def extension_of(media_type: str) -> str:
    """Return the file extension of a media type, such as "png"."""
    return FORMAT_BY_TYPE[media_type].extensions[0]
