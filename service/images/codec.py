"""Image files to `image.Image` and back.

Only this, `pillow_arrays.py` and `metadata.py` know Pillow; `png.py` is the fast path.
"""

import io
import struct
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, UnidentifiedImageError
from PIL import Image as PillowImage

from service.errors import BrokenImage, RequestError, UnsupportedImage, reason_of, shown
from service.images import float_tiff, heic
from service.images.form import PLAIN, Form, to_unit_range
from service.images.formats import FORMAT_BY_TYPE, FORMATS
from service.images.guards import avif, jpeg
from service.images.image import Image, Values, in_own_range, to_8_bit
from service.images.inspect import check_data, check_size, inspect
from service.images.metadata import forget_large, plausible_dpi, with_metadata
from service.images.orientation import turn_upright
from service.images.pillow_arrays import deep_values_of, load_floats, picture_of, values_of
from service.images.png import read_png, write_png

# Pillow only warns up to twice its limit. Ours (max_pixels) is checked first; this is the second line of defence.
warnings.filterwarnings("error", category=PillowImage.DecompressionBombWarning)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a picture is decoded in one thread, as all others are

_FRAME_MS, _END_MS = 80, 640  # how long a frame is shown; and the first and the last one

# Compressions of TIFF that are accepted. Of those that embed another format in a strip, only JPEG has a guard.
_TIFF_COMPRESSIONS = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "group3", "group4"} | {
    "tiff_ccitt",
    "jpeg",
}
_JPEG_INSIDE = "jpeg"
_PARTS_TAGS = ((273, 279), (324, 325))  # offsets and byte counts of strips or tiles
_TILE_SIZE_TAGS, _BITS_TAG, _PHOTOMETRIC_TAG, _ORIENTATION_TAG, _PLANES_TAG = (322, 323), 258, 262, 274, 284
_SEPARATE = 2  # planes one after another
_WHITE_IS_ZERO, _MOST_BITS = 0, 16
# Values of the largest TIFF that is compressed. Pillow compresses a picture under the GIL, 0.1 us a value, while all
# other clients wait: 3 s for 9 megapixels of colour noise.
_MOST_COMPRESSED_TIFF = 2**19
_LOSSY_BOXES = {"AVIF": "AVIF", "HEIF": "HEIC"}  # names for people
_ONE_BIT = {"PNG", "TIFF"}  # formats that are written with one bit per pixel
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N"}
_FLOATS = "F"
_PRECISE = {*_SIXTEEN_BIT, _FLOATS}
# mode after decoding -> mode to read the values in
_READ_AS = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "P": "RGB",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
_TO_SEND = "send 8 bits, 16-bit integers or 32-bit floats of grey or RGB, or an NPY array"
DEFAULT_QUALITY = 95


def allow_pixels(max_pixels: int) -> None:
    """Raise Pillow's limit on pixels to this size, for the whole process."""
    PillowImage.MAX_IMAGE_PIXELS = max(max_pixels, PillowImage.MAX_IMAGE_PIXELS or 0)


def decode_image(data: bytes, *, max_pixels: int, max_frames: int, form: Form = PLAIN) -> Image:
    """Decode the first frame of a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC file and apply its EXIF orientation.

    Grey, RGB, 16-bit grey or RGB, floats, one-bit and transparency are kept. Palettes and CMYK become RGB. Colour
    profiles are not applied.

    Args:
        data: The file.
        max_pixels: Largest width x height; checked before anything is allocated.
        max_frames: Largest number of frames or pages.
        form: Layout of the values, for files of floats.

    Raises:
        InvalidParameter: A field of `form` does not apply to this file.
        InvalidArray: The floats of the file do not fit `form.data_range`.
        UnsupportedMediaType, BrokenImage, UnsupportedImage, TooManyPixels, TooManyImages: See `inspect`.
    """
    outline = inspect(data, max_pixels=max_pixels, max_frames=max_frames)
    if outline.format != "TIFF":
        form.refuse_for(outline.format)
    if outline.is_plain and outline.width and outline.height:
        pixels = read_png(data, width=outline.width, height=outline.height)
        if pixels is not None:
            return _image(pixels, media_type="image/png", dpi=plausible_dpi(outline.dpi))
    check_data(outline)
    if outline.format == "HEIF":
        heic.prepare()
    try:
        floats = float_tiff.as_grey(data) if outline.format == "TIFF" else None
        content, orientation = floats or (avif.as_still(data) if outline.format == "AVIF" else data, None)
        beside = 3 if floats else 1  # values of a pixel, side by side as pixels
        file = io.BytesIO(content)
        with PillowImage.open(file, formats=[outline.format]) as picture:
            forget_large(picture)
            check_size(picture.width // beside, picture.height, max_pixels=max_pixels)
            if outline.format == "AVIF" and picture.size != (outline.width, outline.height):
                raise BrokenImage(f"AVIF: it announces {outline.width}x{outline.height}, and has another size")
            _check_tiff(picture, data, max_pixels=max_pixels * beside)
            form.refuse_for(outline.format, has_floats=picture.mode == _FLOATS)
            is_deep = outline.is_deep_colour or _is_deep_tiff(picture)
            image = Image(deep_values_of(picture, data)[None]) if is_deep else _read(picture, form, beside=beside)
            orientation = orientation or picture.getexif().get(_ORIENTATION_TAG)
            return with_metadata(turn_upright(image, orientation), picture)
    except RequestError:
        raise
    except UnidentifiedImageError as error:  # the guard knows its format: the decoder lacks something
        if (name := _LOSSY_BOXES.get(outline.format)) is not None:
            raise UnsupportedImage(f"{name}: the decoder cannot read this file; convert it to JPEG or PNG") from error
        raise UnsupportedImage(
            f"{outline.format}: this combination of channels, bits and sample format cannot be read; {_TO_SEND}"
        ) from error
    except Exception as error:  # decoders raise anything from struct.error to RecursionError on hostile files
        raise BrokenImage(f"{outline.format}: {reason_of(error)}") from error


def _check_tiff(picture: PillowImage.Image, data: bytes, *, max_pixels: int) -> None:
    if picture.format != "TIFF":
        return
    compression = picture.info.get("compression", "raw")
    if compression not in _TIFF_COMPRESSIONS:
        raise UnsupportedImage(
            f"TIFF: compression {shown(compression)}; these work: {', '.join(sorted(_TIFF_COMPRESSIONS))}"
        )
    tags = getattr(picture, "tag_v2", {})
    if compression == _JPEG_INSIDE:
        _check_jpegs(tags, data, max_pixels=max_pixels)
    tile = [tags.get(tag, 1) for tag in _TILE_SIZE_TAGS]
    check_size(int(tile[0]), int(tile[1]), max_pixels=max_pixels)
    bits = tags.get(_BITS_TAG, (8,))
    if max(bits if isinstance(bits, tuple) else (bits,)) > 8 and not (
        picture.mode in _PRECISE or _is_deep_tiff(picture)
    ):
        what = "separate planes" if tags.get(_PLANES_TAG) == _SEPARATE else f"mode {picture.mode}"
        raise UnsupportedImage(f"TIFF: {max(bits)} bits per sample in {what} would lose precision; {_TO_SEND}")


def _is_deep_tiff(picture: PillowImage.Image) -> bool:
    """Return whether it is a TIFF of 16-bit RGB, pixel by pixel."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode == "RGB" and tags.get(_BITS_TAG) == (_MOST_BITS,) * 3 and tags.get(_PLANES_TAG) != _SEPARATE


def _check_jpegs(tags: Mapping[int, Any], data: bytes, *, max_pixels: int) -> None:
    """Check the JPEGs in the strips or tiles of a TIFF like separate files."""
    where = next((found for found in _PARTS_TAGS if all(tag in tags for tag in found)), None)
    starts, sizes = (tags[tag] for tag in where) if where else ((), ())
    if not starts or len(starts) != len(sizes):
        raise BrokenImage("TIFF: the offset of its JPEG data is missing")
    for start, size in zip(starts, sizes, strict=True):
        try:
            part = jpeg.walk(data[start : start + size])
        except (struct.error, IndexError) as error:
            raise BrokenImage("TIFF: a JPEG in it is truncated or damaged") from error
        check_size(part.width or 0, part.height or 0, max_pixels=max_pixels)


def _read(picture: PillowImage.Image, form: Form, *, beside: int = 1) -> Image:
    """Read a picture; `beside` is the number of values of a pixel that floats have side by side."""
    mode = picture.mode
    if mode == _FLOATS:
        load_floats(picture)
        values, own_range = to_unit_range(np.array(picture), form.data_range)
        return Image(np.moveaxis(values.reshape(len(values), -1, beside), 2, 0)[None], own_range=own_range)
    picture.load()
    if mode in _SIXTEEN_BIT:
        return Image(_whole_scale(np.array(picture).astype(np.uint16), picture)[None, None])
    if mode not in _READ_AS:
        raise UnsupportedImage(f"pixels of mode {shown(mode)}; send grey, RGB, CMYK, 16-bit grey, or an NPY array")
    target = _READ_AS[mode]
    if "transparency" in picture.info:
        target = {"L": "LA", "RGB": "RGBA"}.get(target, target)
    return _image(values_of(picture, target), is_one_bit=mode == "1" and target == "L")


def _whole_scale(values: NDArray[np.uint16], picture: PillowImage.Image) -> NDArray[np.uint16]:
    """Return 16-bit grey from black to white.

    Pillow neither scales TIFF values of fewer than 16 bits nor inverts files in which zero is white.
    """
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_TAG, (_MOST_BITS,))
    used = min(max(bits if isinstance(bits, tuple) else (bits,)), _MOST_BITS)
    if used < _MOST_BITS:
        top = (1 << used) - 1
        values = ((values.astype(np.uint32) * 0xFFFF + top // 2) // top).astype(np.uint16)
    if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        values = np.uint16(0xFFFF) - values
    return values


def _image(
    values: NDArray[np.uint8],
    *,
    is_one_bit: bool = False,
    media_type: str | None = None,
    dpi: tuple[float, float] | None = None,
) -> Image:
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)  # (C or C + alpha, H, W)
    has_alpha = len(planes) in {2, 4}
    return Image(
        (planes[:-1] if has_alpha else planes)[None],  # a view: the conversion to pixels copies it anyway
        alpha=planes[-1] if has_alpha else None,
        is_one_bit=is_one_bit,
        media_type=media_type,
        dpi=dpi,
    )


def image_types(image: Image) -> tuple[str, ...]:
    """Return the media types that keep the depth and transparency of this image; its own comes first."""
    if len(image.values) != 1:
        return ()
    if image.is_float_file:
        return ("image/tiff",)
    is_16_bit, has_alpha = image.values.dtype == np.uint16, image.alpha is not None
    kinds = types_for(is_16_bit, image.channels == 3, has_alpha, image.media_type)
    longest = max(image.size)
    return tuple(kind for kind in kinds if longest <= FORMAT_BY_TYPE[kind].longest_side)


@cache
def types_for(is_16_bit: bool, is_colour: bool, has_alpha: bool, own: str | None) -> tuple[str, ...]:
    """Return the media types that keep such an image; `own` comes first."""
    types = [
        entry.media_type
        for entry in FORMATS
        if entry.options
        and (not is_16_bit or (entry.has_deep_colour if is_colour else entry.has_16_bits))
        and (entry.has_alpha or not has_alpha)
    ]
    return tuple(sorted(types, key=lambda kind: kind != own))


def encode_image(image: Image, media_type: str, *, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode the image as a file, with its colour profile and EXIF data, if any.

    PNG and TIFF are lossless, JPEG and WebP are not. JPEG has no chroma subsampling from quality 90. A TIFF is
    compressed up to half a million values.

    Args:
        image: An image with N = 1.
        media_type: One of `image_types(image)`.
        quality: Quality of JPEG and WebP, 1 to 100.
    """
    values: Values
    if image.is_float_file:
        values = in_own_range(image.values[0], image)
    else:
        values = image.values[0] if image.values.dtype == np.uint16 else to_8_bit(image.values[0])
    planes = [*values] if image.alpha is None else [*values, image.alpha]
    if media_type == "image/png" and not image.is_one_bit:
        return write_png(planes, dpi=image.dpi, icc=image.icc, exif=image.exif)
    said = {"icc_profile": image.icc, "exif": image.exif, "dpi": image.dpi}
    beside: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    entry = FORMAT_BY_TYPE[media_type]
    assert entry.options is not None  # noqa: S101  `image_types` offers no other
    if image.is_float_file and image.channels > 1:
        beside["tiffinfo"] = float_tiff.TO_ANSWER
        planes = [np.moveaxis(values, 0, 2).reshape(image.size[0], -1)]
    picture = picture_of(planes)
    if image.is_one_bit and entry.name in _ONE_BIT:
        picture = picture.convert("1", dither=PillowImage.Dither.NONE)
    options = entry.options(quality)
    if entry.name == "TIFF" and len(planes) * planes[0].size > _MOST_COMPRESSED_TIFF:
        options = {}
    file = io.BytesIO()
    picture.save(file, entry.name, **options, **beside)
    content = file.getvalue()
    return float_tiff.as_colour(content, image.size[1]) if "tiffinfo" in beside else content


def encode_animation(values: NDArray[np.uint8], media_type: str) -> bytes:
    """Encode frames (N, C, H, W) as an animation that repeats forever.

    WebP is lossless. GIF has 256 colours, so it is lossless for grey.
    """
    first, *others = (
        PillowImage.fromarray(frame[0] if len(frame) == 1 else np.ascontiguousarray(np.moveaxis(frame, 0, 2)))
        for frame in values
    )
    durations = [_FRAME_MS] * len(values)
    durations[0] = durations[-1] = _END_MS
    file = io.BytesIO()
    entry = FORMAT_BY_TYPE[media_type]
    options = entry.animation or {}
    first.save(file, entry.name, save_all=True, append_images=others, duration=durations, loop=0, **options)
    return file.getvalue()
