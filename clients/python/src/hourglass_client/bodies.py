"""Request bodies of images: files unchanged, Pillow images as PNG, arrays as NPY; several as a form."""

import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hourglass_client.answers import NPY_TYPE
from hourglass_client.arrays import SERVICE_ORDER, ArrayOrder

# A path, the bytes of a file, an image of Pillow, or an array: float32 in [0, 1] or uint8, (H, W), (C, H, W) or
# (N, C, H, W), unless the client was told another order of arrays.
ImageLike = str | Path | bytes | Image.Image | NDArray[Any]


class Body(NamedTuple):
    """The body for an image: a file, its media type, and its name if it has one."""

    content: bytes
    media_type: str
    name: str = "image"


def to_body(image: ImageLike, order: ArrayOrder = SERVICE_ORDER) -> Body:
    """Return the body for an image. Files are sent unchanged.

    Raises:
        OSError: A path cannot be read.
        TypeError: The value is not an image.
        ValueError: An array does not fit `order`.
    """
    match image:
        case str() | Path():
            return Body(Path(image).read_bytes(), "application/octet-stream", Path(image).name)
        case bytes():
            return Body(image, "application/octet-stream")
        case Image.Image():
            file = io.BytesIO()
            image.save(file, "PNG")
            return Body(file.getvalue(), "image/png")
        case np.ndarray():
            return Body(to_npy(order.to_service(image)), NPY_TYPE)
    raise TypeError(f"an image is a path, bytes, a Pillow image or an array, not {type(image).__name__}")


def with_ignored(image: ImageLike, ignore: ImageLike | None, order: ArrayOrder) -> Body:
    """Return the body for an image, with a mask of pixels to ignore if there is one; a mask of booleans is fine."""
    body = to_body(image, order)
    if ignore is None:
        return body
    if isinstance(ignore, np.ndarray) and ignore.dtype == np.bool_:
        ignore = ignore.astype(np.uint8) * 255
    return to_form([body], ignore=to_body(ignore, order))


def to_npy(array: NDArray[Any]) -> bytes:
    """Encode the array as an NPY file; float64 becomes float32."""
    file = io.BytesIO()
    np.save(file, array.astype(np.float32) if array.dtype == np.float64 else array, allow_pickle=False)
    return file.getvalue()


def to_form(files: Sequence[Body], **others: Body) -> Body:
    """Encode the files as fields `file` of multipart/form-data, and others as fields of their names."""
    boundary = uuid.uuid4().hex  # in no file, but for a chance of 1 in 2^122
    parts = [_part(boundary, "file", file) for file in files]
    parts += [_part(boundary, field, file) for field, file in others.items()]
    return Body(b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, field: str, file: Body) -> bytes:
    name = file.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as browsers do, WHATWG
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
    head = f"--{boundary}\r\n{disposition}\r\nContent-Type: {file.media_type}\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + file.content + b"\r\n"
