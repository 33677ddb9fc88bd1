"""The file format of /compress: images as symbols behind a range coder, with all that is needed to read them again.

    magic  version  CRC32s  digests of decoder and tables  rate  sizes  model's name and version  payload

docs/compression.md has it byte by byte. From a file to its symbols there are integers only: no float, and no network,
so every machine reads the same symbols or says that the file is broken.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from service.errors import BrokenContainer, TooManyImages, UnsupportedMediaType, shown
from service.manifest import TABLE_TOTAL, SymbolTable

HOURGLASS_TYPE = "application/vnd.hourglass"
CONTAINER_MAGIC = b"\xf0HG"
FORMAT_VERSION = 1
DIGEST_BYTES = 8

Symbols = NDArray[np.int32]

_HEAD = struct.Struct(f"<3sBII{DIGEST_BYTES}s{DIGEST_BYTES}sBBB")
_CHECKED_FROM = 8  # the first CRC32 is over every byte behind itself
_WORD_BYTES = 4  # of the range coder
_MOST_SPARE_BYTES = 8  # of its state, at the end of a payload
_MOST_BYTES_PER_SYMBOL = 3  # the least likely one has 16 bits
_WORTH_SHORTENING = 512  # bytes; it costs an unpacking for every byte that is tried
_MOST_VARINT_BYTES = 5
_NATIVE, _ONE_SIZE, _EACH_ITS_SIZE = 0, 1, 2


@dataclass(frozen=True)
class Container:
    """What a file says.

    Attributes:
        model: Name of the model that made it.
        version: Of that model.
        decoder: First bytes of the SHA-256 of its graph `decompress`.
        tables: First bytes of the SHA-256 of its tables.
        rate: Index of the rate point.
        count: How many images.
        sizes: Height and width: of every image, or one for all, or none where all have the model's own size.
        symbols_crc32: Of the symbols as little-endian int32, image by image.
        payload: What the range coder wrote.
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


def write_container(file: Container) -> bytes:
    """The file's bytes."""
    kind = _NATIVE if not file.sizes else _ONE_SIZE if len(file.sizes) == 1 else _EACH_ITS_SIZE
    name = file.model.encode("ascii")
    numbers = [file.version, file.count, *(side for size in file.sizes for side in size)]
    rest = [name, *map(_varint, numbers), file.payload]
    checks = (0, file.symbols_crc32)
    head = _HEAD.pack(
        CONTAINER_MAGIC, FORMAT_VERSION, *checks, file.decoder, file.tables, file.rate, kind, len(name)
    )  # fmt: skip
    content = bytearray(b"".join([head, *rest]))
    struct.pack_into("<I", content, 4, zlib.crc32(memoryview(content)[_CHECKED_FROM:]))
    return bytes(content)


def read_container(data: bytes, *, max_images: int) -> Container:
    """What the file says. Its symbols stay packed: they need the model's tables.

    Args:
        data: The file.
        max_images: Most images in it.

    Raises:
        UnsupportedMediaType: It is no such file.
        BrokenContainer, TooManyImages: With what is wrong.
    """
    if not data.startswith(CONTAINER_MAGIC):
        raise UnsupportedMediaType(
            f"the body starts with {shown(data[:8])}; a file of /compress starts with {CONTAINER_MAGIC!r}"
        )
    if len(data) < _HEAD.size:
        raise BrokenContainer(f"the file has {len(data)} bytes, its header alone has {_HEAD.size} or more: was it cut?")
    _, version, crc32, symbols_crc32, decoder, tables, rate, kind, name_length = _HEAD.unpack_from(data)
    if version != FORMAT_VERSION:
        raise BrokenContainer(f"the file has format version {version}; this service reads version {FORMAT_VERSION}")
    if (found := zlib.crc32(memoryview(data)[_CHECKED_FROM:])) != crc32:
        raise BrokenContainer(f"the file has CRC32 {found:08x}, its header says {crc32:08x}: it is cut off or damaged")
    reader = _Reader(data, _HEAD.size)
    model = reader.take(name_length)
    if not model or not model.isascii():
        raise BrokenContainer(f"the file names the model {shown(model)}, which is no name")
    model_version, count = reader.number(), reader.number()
    if not model_version or not count:
        raise BrokenContainer(f"the file has {count} images by version {model_version} of a model; both begin at 1")
    if count > max_images:
        raise TooManyImages(f"the file holds {count} images, the limit is {max_images} (setting max_images)")
    if kind > _EACH_ITS_SIZE:
        raise BrokenContainer(f"the file says its sizes in the way {kind}; there are 0 to {_EACH_ITS_SIZE}")
    said = (0, 1, count)[kind]
    sizes = tuple((reader.number(), reader.number()) for _ in range(said))
    if any(not height or not width for height, width in sizes):
        raise BrokenContainer("the file has an image without pixels")
    return Container(
        model.decode("ascii"), model_version, decoder, tables, rate, count, sizes, symbols_crc32, data[reader.at :]
    )


def to_symbols(y: NDArray[np.float32], tables: Sequence[SymbolTable]) -> Symbols:
    """Numbers (N, D) as the nearest symbols that the tables, one per latent, can write."""
    first = np.array([table.first for table in tables], np.float32)
    last = first + np.array([len(table.counts) - 1 for table in tables], np.float32)
    return np.clip(np.rint(y), first, last).astype(np.int32)


def pack_symbols(symbols: Symbols, tables: Sequence[SymbolTable]) -> bytes:
    """Symbols as bytes: latent by latent, and within one latent image by image.

    Args:
        symbols: (N, D), each within its table.
        tables: One per latent, D.
    """
    encoder = stream.queue.RangeEncoder()
    for column, table in zip(symbols.T, tables, strict=True):
        if len(table.counts) > 1:
            encoder.encode(np.ascontiguousarray(column - table.first), _model(table))
    words = encoder.get_compressed()
    return _shortest(words.astype(">u4").tobytes(), symbols, tables)


def unpack_symbols(payload: bytes, count: int, tables: Sequence[SymbolTable]) -> Symbols:
    """The symbols of `count` images, (count, D): the inverse of `pack_symbols`.

    Raises:
        BrokenContainer: No symbols are written like this, or not in so many bytes.
    """
    if len(payload) > _MOST_BYTES_PER_SYMBOL * count * len(tables) + _MOST_SPARE_BYTES:
        raise BrokenContainer(f"the payload has {len(payload)} bytes, too many for {count} images")
    filled = payload + bytes(-len(payload) % _WORD_BYTES)
    decoder = stream.queue.RangeDecoder(np.frombuffer(filled, ">u4").astype(np.uint32))
    symbols = np.empty((count, len(tables)), np.int32)
    try:
        for i, table in enumerate(tables):
            indices = decoder.decode(_model(table), count) if len(table.counts) > 1 else 0
            symbols[:, i] = indices + np.int32(table.first)
    except (AssertionError, ValueError) as error:  # what the coder raises
        raise BrokenContainer(f"the payload is no sequence of symbols: {shown(str(error), limit=160)}") from error
    return symbols


def symbols_crc32(symbols: Symbols) -> int:
    """CRC32 of symbols (N, D) as little-endian int32, image by image."""
    return zlib.crc32(symbols.astype("<i4").tobytes())


def _model(table: SymbolTable) -> stream.model.Categorical:
    # The coder takes floats, and makes of symbol i the interval from floor(c[i] * (2**24 - n)) + i on, where n is the
    # number of symbols and c the sum of those before. Counts / 2**16 are exact, and so are these sums and products
    # (40 bits) in float64: no rounding can differ. `perfect=True` would search with logarithms.
    probabilities = np.array(table.counts, np.float64) / TABLE_TOTAL
    return stream.model.Categorical(probabilities, perfect=False)


def _shortest(packed: bytes, symbols: Symbols, tables: Sequence[SymbolTable]) -> bytes:
    """The first bytes that say the same: the coder ends with whole words, and a missing byte reads as zero."""
    if len(packed) > _WORTH_SHORTENING:
        return packed
    whole = int.from_bytes(packed, "big")
    for length in range(max(0, len(packed) - _MOST_SPARE_BYTES), len(packed)):
        cut = 8 * (len(packed) - length)
        for head in (whole >> cut, (whole >> cut) + 1):
            if head < 1 << 8 * length and _says(candidate := head.to_bytes(length, "big"), symbols, tables):
                return candidate
    return packed


def _says(packed: bytes, symbols: Symbols, tables: Sequence[SymbolTable]) -> bool:
    try:
        return np.array_equal(unpack_symbols(packed, len(symbols), tables), symbols)
    except BrokenContainer:
        return False


def _varint(value: int) -> bytes:
    """LEB128: seven bits per byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Takes a file apart from the front."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        if len(taken) < length:
            raise BrokenContainer("the header goes on behind the end of the file")
        self.at += length
        return taken

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
