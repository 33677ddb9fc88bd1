"""Memory that the budget expects of a large picture, compared with the measured peak.

    python -m benchmarks.reliability [--write] memory

Each picture is read, run in tiles through a graph that changes nothing, and written, in a process of its own. Taken is
the peak of its resident memory, with the file and without what the process had before. The memory inside a network is
not part of it.
"""

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.commands import selected, selecting
from benchmarks.page import table
from benchmarks.service import newest
from service.contract.manifest import Manifest
from service.images.codec import allow_pixels
from service.images.inspect import ImageFile
from service.images.npy import write_npy
from service.images.png import write_png
from service.limits import InputLimits
from service.models.batcher import Batcher
from service.settings import Settings
from service.tasks.peak import peak_bytes
from service.tasks.restore import Restoration

MIB = 2**20
LARGE = 100_000_000  # pixels
_STATUS = Path("/proc/self/status")


def noisy(side: int, channels: int) -> NDArray[np.uint8]:
    """Waves with noise, (H, W) or (H, W, C): like a photograph for encoders."""
    rng, line = np.random.default_rng(0), np.arange(side, dtype=np.float32)
    waves = 128 + 60 * np.sin(line / 97)[None] + 60 * np.sin(line / 61)[:, None]
    values = np.stack(
        [
            np.clip(waves + 12 * rng.standard_normal((side, side), np.float32), 0, 255).astype(np.uint8)
            for _ in range(channels)
        ],
        axis=-1,
    )
    return values[..., 0] if channels == 1 else values


def saved(channels: int, kind: str, **options: object) -> Callable[[int], bytes]:
    """Return a function that makes a file of a square picture."""

    def make(side: int) -> bytes:
        file = io.BytesIO()
        PillowImage.fromarray(noisy(side, channels)).save(file, kind, **options)
        return file.getvalue()

    return make


def deep_png(channels: int) -> Callable[[int], bytes]:
    """Return a function that makes a PNG of 16 bits."""
    return lambda side: write_png(np.moveaxis(noisy(side, channels).reshape(side, side, -1), 2, 0) * np.uint16(257))


# Name -> the file of a square picture of this side.
FILES: dict[str, Callable[[int], bytes]] = {
    "JPEG": saved(3, "JPEG", quality=90),
    "JPEG, grey": saved(1, "JPEG", quality=90),
    "JPEG, progressive, 4:2:0": saved(3, "JPEG", quality=90, progressive=True),
    "JPEG, progressive, 4:4:4": saved(3, "JPEG", quality=95, progressive=True, subsampling=0),
    "PNG, grey": saved(1, "PNG", compress_level=1),
    "PNG, RGB": saved(3, "PNG", compress_level=1),
    "PNG, transparent": saved(4, "PNG", compress_level=1),
    "PNG, 16-bit grey": deep_png(1),
    "PNG, 16-bit RGB": deep_png(3),
    "WebP": saved(3, "WEBP", method=0),
    "WebP, transparent": saved(4, "WEBP", method=0),
    "TIFF": saved(3, "TIFF"),
    "BMP": saved(3, "BMP"),
    "AVIF": saved(3, "AVIF", speed=10),
    "NPY, float32": lambda side: write_npy((noisy(side, 3) / np.float32(255)).transpose(2, 0, 1)),
}
ACCEPT = {"": None, "PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp", "NPY": "application/x-npy"}
ROWS = [(name, "") for name in FILES] + [
    ("JPEG", "PNG"), ("JPEG", "WebP"), ("JPEG", "NPY"), ("PNG, transparent", "WebP"), ("PNG, RGB", "JPEG"),
    ("NPY, float32", "PNG"),
]  # fmt: skip


def taken_bytes(name: str, answer: str, side: int) -> tuple[int, int, int, int]:
    """Return the expected and the taken bytes, those of the file, and those expected of 100 megapixels."""
    manifest = Manifest.model_validate_json((newest("photo") / "manifest.json").read_bytes())
    settings, accept = Settings(), ACCEPT[answer]
    limits = InputLimits(side**2, settings.max_images, settings.max_frames)
    allow_pixels(side**2)
    small, file = (ImageFile.of(FILES[name](size)) for size in (64, side))
    for each in (small, file):  # the first loads what is loaded once
        batcher = Batcher(lambda x, *_: (x,), max_batch=1, max_pixels=MIB, name="nothing")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before = _resident("VmRSS")
        peak = asyncio.run(_peak(Restoration(each, manifest, limits, accept), batcher)) - before
    expected = peak_bytes(file.header, side**2, accept=accept, scale=1, is_tiled=True)
    large = peak_bytes(file.header._replace(width=LARGE, height=1), LARGE, accept=accept, scale=1, is_tiled=True)
    size, share = len(file.data), LARGE / side**2
    return size + expected, size + peak, size, large + int(share * size)


async def _peak(work: Restoration, batcher: Batcher) -> int:
    await work.run(batcher)
    return _resident("VmHWM")  # here, as `asyncio.run` makes text of what it returns


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measure(words: Sequence[str]) -> str:
    """Return the table of all files, or of the named ones."""
    parser = selecting("reliability memory", __doc__, what="files")
    parser.add_argument("--side", type=int, default=5000, help="pixels a side (default 5000)")
    options, rows, settings = parser.parse_args(words), [], Settings()
    for name, answer in ROWS:
        if not selected([name], options.parts):
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            expected, taken, size, large = process.submit(taken_bytes, name, answer, options.side).result()
        verdict = "200" if large <= settings.max_request_memory_bytes else "413"
        rows.append(
            [name, answer or "the same", f"{size / MIB:.0f} MiB", f"{expected / MIB:.0f} MiB", f"{taken / MIB:.0f} MiB",
             f"{expected / taken:.2f}", f"{large / MIB:.0f} MiB: {verdict}"]
        )  # fmt: skip
    megapixels = options.side**2 / 1e6
    return table(
        ["file", "answer", "size", f"expected of {megapixels:.0f} megapixels", "taken", "expected / taken",
         "expected of 100 megapixels"], rows,
    )  # fmt: skip
