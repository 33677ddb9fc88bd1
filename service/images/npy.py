"""Arrays on the wire: NPY and JSON to NumPy and back. Nothing unpickles, and sizes are checked before allocation."""

import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidArray, TooManyImages, TooManyPixels, reason_of, shown
from service.images.form import PLAIN, Form, to_unit_range
from service.images.header import Header
from service.images.image import Image

NPY_MAGIC = b"\x93NUMPY"
_MOST_ITEM_BYTES = 8
_PIECE_BYTES = 4 * 2**20
_MAX_HEADER_BYTES = 1024  # NumPy writes 118 for every shape that is accepted
_SHAPE = re.compile(rb"['\"]shape['\"]\s*:\s*\(\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)")
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

AnyArray = NDArray[Any]  # Any: the header states the dtype, which is checked right after


def read_npy_image(data: bytes, *, max_pixels: int, max_images: int, form: Form = PLAIN) -> Image:
    """Read the images of an NPY file.

    Args:
        data: The file. Its values are floats in [0, 1], uint8 or uint16, or numbers of any range with
            `form.data_range`. Its shape is (H, W), (C, H, W) or (N, C, H, W) with C = 1 or 3, or has the channels last
            with `form.is_channels_last`. Fortran order and either byte order are accepted.
        max_pixels: Largest N x H x W.
        max_images: Largest N.
        form: Range of the values, and order of the axes.

    Raises:
        InvalidArray: The header is invalid, or the type, shape or values are not supported.
        TooManyPixels, TooManyImages: The array exceeds a limit.
    """
    dtype, shape, is_fortran, start = read_header(data)
    _check_type(dtype, form)
    last = form.is_channels_last and len(shape) > 2
    if len(shape) not in {2, 3, 4}:
        axes = "(H, W), (H, W, C) or (N, H, W, C)" if form.is_channels_last else "(H, W), (C, H, W) or (N, C, H, W)"
        raise InvalidArray(f"the array has shape {shown_shape(shape)}; send {axes}")
    count, channels, height, width = _four_axes(shape, is_channels_last=last)
    if channels not in {1, 3}:
        raise InvalidArray(
            f"the array has shape {shown_shape(shape)}: {channels} channels; the C of "
            f"{'(H, W, C)' if last else '(C, H, W)'} is 1 or 3{_other_layout(shape, is_channels_last=last)}"
        )
    if not count or not height or not width:
        raise InvalidArray(f"the array has shape {shown_shape(shape)}, which holds no pixels")
    if count > max_images:
        raise TooManyImages(f"the array holds {count} images, the limit is {max_images} (setting max_images)")
    if count * height * width > max_pixels:
        pixels = count * height * width
        raise TooManyPixels(f"the array holds {pixels} pixels, the limit is {max_pixels} (setting max_pixels)")
    values = read_values(data, dtype, shape, is_fortran, start)
    if last:
        values = np.ascontiguousarray(np.moveaxis(values, -1, -3))
    values, own_range = values.reshape(count, channels, height, width), None
    if form.data_range is not None or values.dtype.kind == "f":
        values, own_range = to_unit_range(values, form.data_range)
    return Image(values, array_rank=len(shape), is_channels_last=last, own_range=own_range)


def _check_type(dtype: np.dtype[Any], form: Form) -> None:
    if form.data_range is None and dtype.kind != "f" and dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        cure = "; for integers of another range give data_range" if dtype.kind in "iu" else ""
        raise InvalidArray(f"the array is {dtype}; send float32 with pixels in [0, 1], uint8, or uint16{cure}")
    if dtype.kind not in "fiu" or dtype.itemsize > _MOST_ITEM_BYTES:
        raise InvalidArray(f"the array is {dtype}; send floats or integers of at most 64 bits")


def _four_axes(shape: tuple[int, ...], *, is_channels_last: bool) -> tuple[int, int, int, int]:
    """Return N, C, H and W of a shape with two to four axes."""
    if is_channels_last:
        shape = (*shape[:-3], shape[-1], *shape[-3:-1])
    count, channels, height, width = (1,) * (4 - len(shape)) + shape
    return count, channels, height, width


def _other_layout(shape: tuple[int, ...], *, is_channels_last: bool) -> str:
    """Suggest `layout` if the axes seem to be in the other order."""
    if (shape[-3] if is_channels_last else shape[-1]) not in {1, 3}:
        return ""
    if is_channels_last:
        return "; these come first: leave layout out"
    return "; channels come first: send np.moveaxis(x, -1, -3), or give layout=hwc to /denoise and /enhance"


def peek(data: bytes, *, is_channels_last: bool = False) -> Header:
    """Read an NPY header. Its size is None if the shape is missing or stated twice."""
    shapes = _SHAPE.findall(data, 0, _MAX_HEADER_BYTES)
    shape = tuple(map(int, shapes[0].split(b","))) if len(shapes) == 1 else ()
    if len(shape) < 2:
        return Header("NPY", is_colour=False, shape=shape)
    whole = (1,) * (4 - len(shape)) + shape  # more than four axes are refused later
    images, channels, height, width = _four_axes(whole[-4:], is_channels_last=is_channels_last and len(shape) > 2)
    return Header(
        "NPY",
        width,
        height,
        is_colour=len(shape) > 2 and channels == 3,
        images=max(1, images),
        channels=channels,
        depth=4,
        shape=shape,
    )


def write_npy(array: AnyArray) -> bytes:
    """Write the array as an NPY file (version 1.0, C order, little endian)."""
    array = np.ascontiguousarray(array)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return to_bytes(array, head.getvalue())


def to_bytes(array: AnyArray, head: bytes = b"") -> bytes:
    """Return `head` followed by the values of a contiguous array.

    The values are copied in pieces, so that other threads can run in between: one copy of 300 MB would hold the GIL,
    and so stop the event loop, for a quarter of a second.
    """
    values = array.reshape(-1).view(np.uint8).data
    copy = io.BytesIO()
    copy.write(head)
    for start in range(0, len(values), _PIECE_BYTES):
        copy.write(values[start : start + _PIECE_BYTES])
    return copy.getvalue()


def read_header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Read dtype, shape, Fortran order and the offset of the values.

    Raises:
        InvalidArray: The data has no valid NPY header of version 1.0 or 2.0.
    """
    if not data.startswith(NPY_MAGIC) or len(data) < 10:
        raise InvalidArray(f"the body starts with {shown(data[:8])}; an NPY file starts with {NPY_MAGIC!r}")
    version = (data[6], data[7])
    if version not in _HEADER_READERS:
        raise InvalidArray(f"NPY version {version[0]}.{version[1]}; send 1.0 or 2.0, as numpy.save does")
    if len(_SHAPE.findall(data, 0, _MAX_HEADER_BYTES)) > 1:  # `peek` and NumPy would read different ones
        raise InvalidArray("the NPY header names the shape twice")
    file = io.BytesIO(data)
    file.seek(8)
    try:
        shape, is_fortran, dtype = _HEADER_READERS[version](file, max_header_size=_MAX_HEADER_BYTES)
    except Exception as error:  # NumPy evaluates a Python literal, and hostile ones raise anything
        raise InvalidArray(f"the NPY header cannot be read: {reason_of(error)}") from error
    if any(isinstance(axis, bool) or axis < 0 for axis in shape):
        raise InvalidArray(f"the array has shape {shown_shape(shape)}")
    return dtype, shape, is_fortran, file.tell()


def read_values(
    data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], is_fortran: bool, start: int
) -> NDArray[Any]:
    """Read the values after a header, in C order and native byte order.

    Raises:
        InvalidArray: The number of bytes does not match the shape.
    """
    expected, found = math.prod(shape) * dtype.itemsize, len(data) - start
    if found != expected:
        raise InvalidArray(f"the array of shape {shown_shape(shape)} needs {expected} bytes, the body has {found}")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(values, dtype.newbyteorder("="))


def shown_shape(shape: tuple[int, ...]) -> str:
    """Format a shape for an error message."""
    return shown(shape, limit=60)
