"""The kinds of small requests that cost much work, each with examples."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.reliability.bodies import (
    FILE_CAP,
    JSON,
    JSON_CAP,
    MIB,
    RAW,
    Body,
    bmp_of_runs,
    flat_png,
    form,
    npy,
    repeated,
    tensor,
    tiff_of_numbers,
)
from benchmarks.samples import NOISY
from benchmarks.service import newest
from service.contract.container import DIGEST_BYTES, Container, write_container
from service.media_types import HOURGLASS_TYPE

NOTHING = Body(b"", {})
ARRAY = RAW | {"Accept": "application/x-npy"}
_ITEMS = 1000
_LATENT_DIM = 32


@dataclass(frozen=True)
class Bomb:
    """A request, or several of one sort.

    Attributes:
        kind: What it exploits.
        path: Path and query.
        body: Its body.
        method: HTTP method.
        at_once: Number of connections that send it at the same time.
        pipelined: Number of times that each connection sends it without waiting.
        is_read: The clients read the answers.
        flags: Flags of the service.
        first: Requests (method, path, body) before it, not measured.
    """

    kind: str
    path: str
    body: Body
    method: str = "POST"
    at_once: int = 1
    pipelined: int = 1
    is_read: bool = True
    flags: tuple[str, ...] = ()
    first: tuple[tuple[str, str, Body], ...] = ()

    @property
    def raw(self) -> bytes:
        """Bytes of one request."""
        is_chunked = "Transfer-Encoding" in self.body.headers
        length = {} if is_chunked else {"Content-Length": f"{len(self.body.content)}"}
        headers = {"Host": "x"} | length | self.body.headers
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body.content


def held(size: int) -> Body:
    """Return a body that lacks its last byte."""
    return Body(bytes(size - 1), RAW | {"Content-Length": f"{size}"})


def false_npy() -> Body:
    """Return 256 images that say that they are one, in the first of two shapes."""
    header = b"{'descr': '<f4', 'shape': (1, 1, 28, 28), 'fortran_order': False, 'shape': (256, 1, 28, 28), }"
    return Body(npy((), bytes(4 * 256 * 28 * 28), header=header))


def sliver_file() -> Body:
    """Return a compressed file of `photo-compressed` that says that it holds 1 x 25,000,000 pixels."""
    folder = newest("photo-compressed")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    decoder = hashlib.sha256((folder / "decompress.onnx").read_bytes()).digest()[:DIGEST_BYTES]
    tables = bytes.fromhex(manifest["compression"]["tables_sha256"])[:DIGEST_BYTES]
    file = Container("photo-compressed", int(folder.name), decoder, tables, 0, 1, ((1, 25_000_000),), 0, b"", planes=1)
    return Body(write_container(file), {"Content-Type": HOURGLASS_TYPE})


def gzipped_tensor() -> Body:
    """Return a tensor of 16 megapixels of zeros, and its sigma, in gzip."""
    x = tensor(b"[" + b"0," * 15_999_999 + b"0]", (1, 1, 4000, 4000))
    sigma = b',{"name":"sigma","shape":[1],"datatype":"FP32","data":[25]}'
    return Body(gzip.compress(x.removesuffix(b"]}") + sigma + b"]}", 9), JSON | {"Content-Encoding": "gzip"})


def items_with_metadata(count: int) -> tuple[tuple[str, str, Body], ...]:
    """Return requests that store items with 8 KB of metadata."""
    latent = json.dumps({"latent": [0.5] * _LATENT_DIM}).encode()
    item = Body(latent, JSON | {"X-Metadata": json.dumps({"a": "x" * 8000})})
    return tuple(("PUT", f"/collections/c/items/{i}?model=digits", item) for i in range(count))


def search_of_everything() -> Bomb:
    """Return 256 latents that ask for 1000 neighbours each, with 8 KB of metadata."""
    items = items_with_metadata(_ITEMS)
    latents = json.dumps({"latents": [[0.5] * _LATENT_DIM] * 256}).encode()
    return Bomb("pictures and answers pile up", f"/collections/c/search?k={_ITEMS}", Body(latents, JSON), first=items)


# name -> what to send
BOMBS: dict[str, Callable[[], Bomb]] = {
    "16 megapixels for `photo-grey` in gzip": lambda: Bomb(
        "a second way to a graph", "/v2/models/photo-grey.denoise/infer", gzipped_tensor()
    ),
    "two megapixels for `photo-x2`": lambda: Bomb(
        "a second way to a graph",
        "/v2/models/photo-x2.enhance/infer",
        Body(tensor(b"[" + b"0," * 1_999_999 + b"0]", (1, 1, 2000, 1000)), JSON),
    ),
    "a long string among the numbers of `/v2`": lambda: Bomb(
        "types checked after conversion",
        "/v2/models/digits.denoise/infer",
        Body(tensor(b'["' + b"a" * 100_000 + b'"' + b",0" * 10_000 + b"]", (1, 1, 28, 28)), JSON),
    ),
    f"{FILE_CAP >> 20} MiB of lists for `/generate`": lambda: Bomb(
        "work in proportion to a body",
        "/generate?model=digits",
        Body(repeated(b"[],", FILE_CAP, start=b"[", end=b"[]]"), JSON),
    ),
    "4 MiB of lists for `/decode`": lambda: Bomb(
        "work in proportion to a body",
        "/decode?model=digits",
        Body(repeated(b"[],", JSON_CAP, start=b"[", end=b"[]]"), JSON),
    ),
    "a JPEG of tiny segments": lambda: Bomb(
        "work in proportion to a body",
        "/denoise?model=digits",
        Body(repeated(b"\xff\xfe\0\2", FILE_CAP, start=b"\xff\xd8")),
    ),
    "a JPEG of fill bytes": lambda: Bomb(
        "work in proportion to a body",
        "/denoise?model=digits",
        Body(repeated(b"\xff", MIB // 16, start=b"\xff\xd8")),
    ),
    "a TIFF with 15 million numbers in a tag": lambda: Bomb(
        "work in proportion to a body", "/denoise?model=digits", Body(tiff_of_numbers(15_000_000))
    ),
    "a BMP of 15 million runs": lambda: Bomb(
        "work in proportion to a body", "/denoise?model=digits", Body(bmp_of_runs(5000, 3000))
    ),
    "100,000 chunks of a byte on 50 connections": lambda: Bomb(
        "work in proportion to a body",
        "/denoise?model=digits",
        Body(b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", RAW | {"Transfer-Encoding": "chunked"}),
        at_once=50,
    ),
    "20 bodies for `/v2/repository/index`, a place for one": lambda: Bomb(
        "routes past admission",
        "/v2/repository/index",
        held(FILE_CAP),
        at_once=20,
        flags=("--max-queue-images", "1", "--body-timeout-s", "5"),
    ),
    "`GET /models/digits` on 100 connections": lambda: Bomb(
        "routes past admission", "/models/digits", NOTHING, method="GET", at_once=100
    ),
    "a form of 64 pictures of 25 megapixels": lambda: Bomb(
        "pictures and answers pile up", "/denoise?model=digits", form(flat_png(5000, 5000, 1), 64)
    ),
    "a form of four, answered as arrays": lambda: Bomb(
        "pictures and answers pile up",
        "/denoise?model=digits",
        Body((four := form(flat_png(5000, 5000, 1), 4)).content, four.headers | {"Accept": "application/x-npy"}),
    ),
    "256 latents with 1000 neighbours each": search_of_everything,
    "one picture of 25 megapixels": lambda: Bomb(
        "cost is not admitted", "/denoise?model=digits", Body(flat_png(5000, 5000, 3))
    ),
    "one picture of 25 megapixels, answered as an array": lambda: Bomb(
        "cost is not admitted", "/denoise?model=digits", Body(flat_png(5000, 5000, 3), ARRAY)
    ),
    "a transparent picture of 100 megapixels for `photo`": lambda: Bomb(
        "cost is not admitted", "/denoise?model=photo", Body(flat_png(10_000, 10_000, 4))
    ),
    "a picture of 100 megapixels for `hazelnut`": lambda: Bomb(
        "cost is not admitted", "/anomaly?model=hazelnut", Body(flat_png(10_000, 10_000, 3))
    ),
    f"24 bodies of {FILE_CAP >> 20} MiB without their last byte": lambda: Bomb(
        "cost is not admitted", "/denoise?model=digits", held(FILE_CAP), at_once=24, flags=("--body-timeout-s", "5")
    ),
    "five answers of 95 MiB that nobody reads": lambda: Bomb(
        "cost is not admitted",
        "/denoise?model=digits",
        Body(flat_png(5000, 5000, 1), ARRAY),
        at_once=5,
        is_read=False,
    ),
    "`GET /openapi.json` 16 times on 100 connections, unread": lambda: Bomb(
        "answers that nobody reads", "/openapi.json", NOTHING, method="GET", at_once=100, pipelined=16, is_read=False
    ),
    "lists of 600 items 16 times on 100 connections, unread": lambda: Bomb(
        "answers that nobody reads",
        "/collections/c/items?limit=1000",
        NOTHING,
        method="GET",
        at_once=100,
        pipelined=16,
        is_read=False,
        first=items_with_metadata(600),
    ),
    "24 arrays of 256 images that say one, a limit of 300": lambda: Bomb(
        "the count can be lied to",
        "/denoise?model=digits",
        false_npy(),
        at_once=24,
        flags=("--max-queue-images", "300"),
    ),
    "a compressed file of 1 x 25,000,000 pixels": lambda: Bomb(
        "loops do not look at the deadline", "/decompress", sliver_file()
    ),
    "a picture 3 million pixels long": lambda: Bomb(
        "loops do not look at the deadline", "/encode?model=digits", Body(flat_png(3_000_000, 1, 1))
    ),
    "a photograph in eight orientations": lambda: Bomb(
        "loops do not look at the deadline", "/denoise?model=photo&thorough=true", Body(flat_png(5000, 5000, 3))
    ),
    "6000 requests in a row on 12 connections": lambda: Bomb(
        "pipelining", "/", NOTHING, method="GET", at_once=12, pipelined=6000, is_read=False
    ),
    "a digit behind `Upgrade: h2c`": lambda: Bomb(
        "a body behind an upgrade",
        "/denoise?model=digits",
        Body(NOISY, RAW | {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}),
    ),
}
