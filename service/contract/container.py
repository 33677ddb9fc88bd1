"""The file format of /compress: images as symbols behind a range coder, with all that is needed to read them again.

    magic  version  CRC32s  digests of decoder and tables  rate  sizes  model's name and version  payload

docs/compression.md has it byte by byte. From a file to its symbols there are integers only: no float, and no network,
so every machine reads the same symbols or says that the file is broken.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from service.errors import BrokenContainer, TooManyImages, UnsupportedMediaType, shown

CONTAINER_MAGIC = b"\xf0HG"
ROWS_VERSION = 1  # of the format: a row of symbols for each image
PLANES_VERSION = 2  # grids of symbols, one per plane of an image
DIGEST_BYTES = 8

_HEAD = struct.Struct(f"<3sBII{DIGEST_BYTES}s{DIGEST_BYTES}sBBB")
_CHECKED_FROM = 8  # the first CRC32 is over every byte behind itself
_MOST_VARINT_BYTES = 5
_NATIVE, _ONE_SIZE, _EACH_ITS_SIZE = 0, 1, 2


@dataclass(frozen=True)
class Container:
    """The contents of a compressed file.

    Attributes:
        model: Name of the model that made it.
        version: Version of that model.
        decoder: First bytes of the SHA-256 of its graph `decompress`.
        tables: First bytes of the SHA-256 of its tables.
        rate: Index of the rate point.
        count: How many images.
        sizes: Height and width: of every image, or one for all, or none where all have the model's own size.
        symbols_crc32: Of the symbols as little-endian int32, image by image.
        payload: What the range coder wrote.
        planes: Planes of every image: 1 is grey, 3 luma and chroma; None where images have a row of symbols each.
    """

    model: str
    version: int
    decoder: bytes
    tables: bytes
    rate: int
    count: int
    sizes: tuple[tuple[int, int], ...]
    symbols_crc32: int
    payload: bytes
    planes: Literal[1, 3] | None = None


def write_container(file: Container) -> bytes:
    """Write a compressed file."""
    kind = _NATIVE if not file.sizes else _ONE_SIZE if len(file.sizes) == 1 else _EACH_ITS_SIZE
    name = file.model.encode("ascii")
    numbers = [file.version, file.count, *(side for size in file.sizes for side in size)]
    planes = b"" if file.planes is None else bytes([file.planes])
    rest = [planes, name, *map(_varint, numbers), file.payload]
    version, checks = PLANES_VERSION if file.planes else ROWS_VERSION, (0, file.symbols_crc32)
    head = _HEAD.pack(
        CONTAINER_MAGIC, version, *checks, file.decoder, file.tables, file.rate, kind, len(name)
    )  # fmt: skip
    content = bytearray(b"".join([head, *rest]))
    struct.pack_into("<I", content, 4, zlib.crc32(memoryview(content)[_CHECKED_FROM:]))
    return bytes(content)


def read_container(data: bytes, *, max_images: int) -> Container:
    """Read a compressed file. Its symbols stay packed, because unpacking needs the model's tables.

    Args:
        data: The file.
        max_images: Most images in it.

    Raises:
        UnsupportedMediaType: It is no such file.
        BrokenContainer, TooManyImages: With what is wrong.
    """
    version, symbols_crc32, decoder, tables, rate, kind, name_length = _read_head(data)
    reader = _Reader(data, _HEAD.size)
    planes = reader.planes() if version == PLANES_VERSION else None
    model = reader.take(name_length)
    if not model or not model.isascii():
        raise BrokenContainer(f"the file names the model {shown(model)}, which is not a valid name")
    model_version, count = reader.number(), reader.number()
    if not model_version or not count:
        raise BrokenContainer(f"the file has {count} images by version {model_version} of a model; both begin at 1")
    if count > max_images:
        raise TooManyImages(f"the file holds {count} images, the limit is {max_images} (setting max_images)")
    sizes = reader.sizes(kind, count, least=_NATIVE if planes is None else _ONE_SIZE)
    payload = data[reader.at :]
    return Container(
        model.decode("ascii"), model_version, decoder, tables, rate, count, sizes, symbols_crc32, payload, planes
    )


def _read_head(data: bytes) -> tuple[int, int, bytes, bytes, int, int, int]:
    """Return version, CRC of the symbols, decoder, tables, rate, kind of sizes and length of the name."""
    if not data.startswith(CONTAINER_MAGIC):
        raise UnsupportedMediaType(
            f"the body starts with {shown(data[:8])}; a file of /compress starts with {CONTAINER_MAGIC!r}"
        )
    if len(data) < _HEAD.size:
        raise BrokenContainer(f"the file has {len(data)} bytes, fewer than a header ({_HEAD.size}): was it truncated?")
    _, version, crc32, symbols_crc32, decoder, tables, rate, kind, name_length = _HEAD.unpack_from(data)
    if version not in {ROWS_VERSION, PLANES_VERSION}:
        raise BrokenContainer(
            f"the file has format version {version}; this service reads versions {ROWS_VERSION} and {PLANES_VERSION}"
        )
    if (found := zlib.crc32(memoryview(data)[_CHECKED_FROM:])) != crc32:
        raise BrokenContainer(
            f"the file has CRC32 {found:08x}, its header says {crc32:08x}: it is truncated or damaged"
        )
    return version, symbols_crc32, decoder, tables, rate, kind, name_length


def _varint(value: int) -> bytes:
    """Encode an integer as LEB128: seven bits per byte, lowest first; the top bit means that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads a file from front to back."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        if len(taken) < length:
            raise BrokenContainer("the header ends after the end of the file")
        self.at += length
        return taken

    def planes(self) -> Literal[1, 3]:
        match self.take(1)[0]:
            case 1 | 3 as planes:
                return planes
            case other:
                raise BrokenContainer(f"an image of the file has {other} planes; 1 and 3 exist")

    def sizes(self, kind: int, count: int, *, least: int) -> tuple[tuple[int, int], ...]:
        """Return height and width of each image, or of all, or none where they have the model's own size."""
        if not least <= kind <= _EACH_ITS_SIZE:
            raise BrokenContainer(f"the file stores its sizes in form {kind}; forms {least} to {_EACH_ITS_SIZE} exist")
        said = (0, 1, count)[kind]
        sizes = tuple((self.number(), self.number()) for _ in range(said))
        if any(not height or not width for height, width in sizes):
            raise BrokenContainer("the file has an image without pixels")
        return sizes

    def number(self) -> int:
        value = 0
        for i in range(_MOST_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                if value >= 2**31:
                    break
                return value
        raise BrokenContainer("the header has a number of 2**31 or more")
