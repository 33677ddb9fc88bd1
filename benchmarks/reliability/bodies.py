"""Adversarial bodies for each reader: small bodies that cost much work, and bodies of the maximum size."""

import json
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MIB = 2**20
FILE_CAP, JSON_CAP, ORDER_CAP = 128 * MIB, 4 * MIB, 64 * 1024  # the default settings, and what an order may have
MAX_PIXELS = 25_000_000
RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
_PARTS = 199_000  # brackets and quotation marks: a few more are refused unparsed


@dataclass(frozen=True)
class Body:
    """A body with its headers.

    Attributes:
        content: Bytes of the body.
        headers: Content-Type, and an Accept if it makes the answer large.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: RAW)


def flat_png(width: int, height: int, channels: int, *, depth: int = 8) -> bytes:
    """Return a black picture as PNG, compressed without holding its pixels."""
    line, deflate = bytes(1 + -(-width * channels * depth // 8)), zlib.compressobj(9)
    data = b"".join([*(deflate.compress(line) for _ in range(height)), deflate.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (head, data, b"")))


def noise_png(side: int) -> bytes:
    """Return a grey picture of noise as PNG, which deflate cannot make smaller."""
    rng = random.Random(0)
    lines = b"".join(b"\0" + rng.randbytes(side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(lines, 1)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (head, data, b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff_of_numbers(count: int) -> bytes:
    """Return a grey picture of 4 x 4 pixels as TIFF, with a description of `count` numbers."""
    pixels, numbers = 8, 24  # where they are in the file
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (270, 3, count, numbers)]
    tags += [(273, 4, 1, pixels), (277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16)]
    head = b"II*\0" + struct.pack("<I", numbers + 2 * count) + bytes(16 + 2 * count)
    return head + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


def bmp_of_runs(width: int, height: int) -> bytes:
    """Return a black picture as BMP, compressed in runs of one pixel."""
    data = (b"\1\0" * width + b"\0\0") * height + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + info + bytes(1024) + data


def form(file: bytes, count: int) -> Body:
    """Return a form with the same file in many fields."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n' % file
    return Body(part * count + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"})


def tensor(data: bytes, shape: Sequence[int]) -> bytes:
    """Return a request of the Open Inference Protocol."""
    shown = json.dumps(list(shape)).encode()
    return b'{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":%s}]}' % (shown, data)


def npy(shape: Sequence[int], data: bytes = b"", *, header: bytes | None = None) -> bytes:
    """Return an NPY file of float32, or with the given header."""
    said = header or b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % b",".join(b"%d" % n for n in shape)
    said += b" " * (-(len(said) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(said)) + said + data


def repeated(unit: bytes, size: int, *, start: bytes = b"", end: bytes = b"") -> bytes:
    """Return `size` bytes: a repeated unit between a start and an end."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def documents(size: int) -> Iterator[bytes]:
    """Yield JSON documents of at most `size` bytes, each a worst case of counting, parsing or printing."""
    lists = b"[]," * min(_PARTS, (size - 200) // 3)
    yield b"[" + lists + repeated(b"0,", size - len(lists) - 200, end=b"0]")
    yield repeated(b"0,", size - 200, start=b"[", end=b"0]")
    yield repeated(b"1e300,", size - 200, start=b"[[", end=b"0]]")
    yield b'"' + b"a" * (size - 202) + b'"'
    yield b"{" + b",".join(b'"%d":0' % i for i in range(min(_PARTS // 2, (size - 200) // 11))) + b"}"
    deep = b"[" * 400 + b"]" * 400 + b","
    yield repeated(deep, min(size, 2 * _PARTS) - 200, start=b"[", end=b"0]")


# What the members of a document are called where somebody looks at their values.
_MEMBERS = ("latent", "latents", "label", "seed", "inputs", "parameters", "count")


def json_bodies(size: int) -> Iterator[tuple[str, Body]]:
    """Yield the documents alone, and as values of fields that endpoints read."""
    for number, document in enumerate(documents(size)):
        yield f"document {number}", Body(document, JSON)
        member = _MEMBERS[number % len(_MEMBERS)]
        yield f"document {number} as {member}", Body(b'{"%s":%s}' % (member.encode(), document), JSON)
    yield "numbers as latents", Body(b'{"latents":[%s]}' % repeated(b"0,", size - 200, start=b"[", end=b"0]"), JSON)
    numbers = repeated(b"0,", size - 200, start=b"[", end=b"0]")
    yield "numbers as a tensor", Body(tensor(numbers, (1, 1, 28, 28)), JSON)
    yield "a tensor that fits", Body(tensor(b"[" + b"0," * (2**20 - 1) + b"0]", (1, 1, 1024, 1024)), JSON)
    strings = b'["' + b"a" * 100_000 + b'"' + b",0" * ((size - 101_000) // 2) + b"]"
    yield "a string in a tensor", Body(tensor(strings, (1, 1, 28, 28)), JSON)


def file_bodies(size: int) -> Iterator[tuple[str, Body]]:
    """Yield files of at most this size with as many parts as possible, and small ones with many pixels."""
    yield "JPEG of tiny segments", Body(repeated(b"\xff\xfe\0\2", size, start=b"\xff\xd8"))
    yield "JPEG of fill bytes", Body(repeated(b"\xff", size, start=b"\xff\xd8"))
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    yield "JPEG of stuffed bytes", Body(repeated(b"\xff\0", size, start=b"\xff\xd8" + scan))
    head = b"GIF89a\x10\0\x10\0\0\0\0"
    yield "GIF of tiny sub-blocks", Body(repeated(b"\1a", size, start=head + b"!\xfe"))
    yield "GIF of tiny extensions", Body(repeated(b"!\xfe\0", size, start=head))
    yield (
        "WebP of empty chunks",
        Body(repeated(b"junk\0\0\0\0", size, start=b"RIFF" + struct.pack("<I", size - 8) + b"WEBP")),
    )
    yield (
        "PNG of empty chunks",
        Body(
            repeated(
                _chunk(b"tEXt", b""),
                size,
                start=b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),
            )
        ),
    )
    directory = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8)
    pages = b"".join(directory + struct.pack("<I", 8 + 18 * (i + 1)) for i in range(min(size, MIB) // 18 - 1))
    yield "TIFF of pages without end", Body(b"II*\0\x08\0\0\0" + pages)
    entries = struct.pack("<H", 65535) + struct.pack("<HHII", 270, 2, size, 0) * 65535
    yield "TIFF of many tags", Body(b"II*\0\x08\0\0\0" + entries + bytes(4))
    yield "BMP of nothing", Body(repeated(b"\0", size, start=b"BM"))
    yield "NPY with a nested header", Body(npy((), header=b"(" * 30_000))
    yield "NPY of rows", Body(npy((size // 4 - 64, 1), bytes(size - 256)))
    yield "form of empty fields", form(b"", min(size // 80, 20_000))
    yield "form of one long field", form(bytes(size - 200), 1)
    yield (
        "form of line ends",
        Body(repeated(b"\r\n--", size, start=b"--b\r\n"), {"Content-Type": "multipart/form-data; boundary=b"}),
    )
    yield "grey picture", Body(flat_png(5000, 5000, 1))
    yield "picture", Body(flat_png(5000, 5000, 3))
    yield "picture as an array", Body(flat_png(5000, 5000, 3), RAW | {"Accept": "application/x-npy"})
    yield "picture of 16 bits", Body(flat_png(5000, 5000, 3, depth=16))
    yield "transparent picture", Body(flat_png(5000, 5000, 4))
    yield "sliver", Body(flat_png(MAX_PIXELS // 8 - 8, 1, 1))
    yield "form of many pictures", form(flat_png(300, 300, 3), 256)
    yield "binary tensor", Body(bytes(size), RAW | {"Inference-Header-Content-Length": "2"})
