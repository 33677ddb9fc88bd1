"""Small image and array files, made in memory."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener

register_heif_opener()  # so that Pillow writes HEIC, too

Array = NDArray[Any]  # Any: of whatever dtype a test is about


def save(picture: Image.Image, format_name: str, **options: Any) -> bytes:  # noqa: ANN401  whatever Pillow takes
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def png(values: Array) -> bytes:
    """uint8 (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), or uint16 (H, W)."""
    return save(Image.fromarray(values), "PNG")


def pixels_of(content: bytes) -> Array:
    with Image.open(io.BytesIO(content)) as picture:
        return np.array(picture)


def to_npy(array: Array, **options: Any) -> bytes:  # noqa: ANN401  whatever numpy.save takes
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def from_npy(content: bytes) -> Array:
    array: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hand_png(width: int, height: int, raw: bytes, *, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def announce(content: bytes, width: int, height: int) -> bytes:
    """Write another size into the box `ispe` of an AVIF or HEIC file."""
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]
