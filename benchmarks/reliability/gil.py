"""How long readers and writers of pictures hold Python's lock (the GIL), while everybody else waits.

    python -m benchmarks.reliability [--write] gil
    python -m benchmarks.reliability gil --megapixels 100 WebP AVIF

A thread reads or writes a picture, and another one wants to run every 2 ms. Its longest wait is measured in CPU time of
the first thread, to exclude other load on the machine. A wait of 5 ms is normal: Python lets threads take turns.
Arguments select rows by a part of their name.
"""

import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.commands import selected, selecting
from benchmarks.page import table
from service.images import heic
from service.images.codec import allow_pixels, decode_image, encode_image
from service.images.image import Image
from service.images.png import write_png

INTERVAL_S = 0.002
MEGAPIXELS = 25
ROUNDS = 2  # the shorter wait counts
Planes = NDArray[np.uint8]


def longest_hold_s(work: Callable[[], object]) -> float:
    """Return the longest time for which a function keeps another thread waiting, in its CPU time."""
    clock, longest, is_over = time.pthread_getcpuclockid(threading.get_ident()), [0.0], threading.Event()

    def look() -> None:
        last, last_cpu = time.perf_counter(), time.clock_gettime(clock)
        while not is_over.is_set():
            time.sleep(INTERVAL_S)
            now, now_cpu = time.perf_counter(), time.clock_gettime(clock)
            longest[0] = max(longest[0], min(now - last - INTERVAL_S, now_cpu - last_cpu))
            last, last_cpu = now, now_cpu

    thread = threading.Thread(target=look)
    thread.start()
    try:
        work()
    finally:
        is_over.set()
        thread.join()
    return longest[0]


def planes_of(channels: int, side: int) -> Planes:
    """Return smooth shapes with noise, (H, W, C), or (H, W) for one channel."""
    y, x = np.ogrid[:side, :side]
    shape = (128 + 60 * np.sin(x / 37) + 50 * np.cos(y / 53)).astype(np.uint8)
    shape += np.random.default_rng(0).integers(0, 16, shape.shape, np.uint8)
    return shape if channels == 1 else np.stack([np.roll(shape, 3 * i, 0) for i in range(channels)], 2)


def saved(name: str, channels: int, side: int, *, mode: str | None = None, **options: object) -> bytes:
    """Return a file that Pillow writes."""
    if name == "HEIF":
        heic.prepare()
    picture = PillowImage.fromarray(planes_of(channels, side))
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, name, **options)
    return file.getvalue()


def deep_png(side: int) -> bytes:
    """Return a PNG of 16-bit RGB."""
    return write_png(np.moveaxis(planes_of(3, side), 2, 0).astype(np.uint16) * 257)


# side -> file
READ: dict[str, Callable[[int], bytes]] = {
    "PNG": lambda side: saved("PNG", 3, side, compress_level=1),
    "PNG, RGB and alpha": lambda side: saved("PNG", 4, side, compress_level=1),
    "PNG, palette": lambda side: saved("PNG", 1, side, mode="P", compress_level=1),
    "PNG, 16-bit RGB": deep_png,
    "JPEG": lambda side: saved("JPEG", 3, side),
    "JPEG, progressive": lambda side: saved("JPEG", 3, side, progressive=True),
    "JPEG, CMYK": lambda side: saved("JPEG", 3, side, mode="CMYK"),
    "WebP": lambda side: saved("WEBP", 3, side, method=0),
    "WebP, lossless": lambda side: saved("WEBP", 3, side, method=0, lossless=True, quality=0),
    "WebP, RGB and alpha": lambda side: saved("WEBP", 4, side, method=0),
    "GIF": lambda side: saved("GIF", 3, side),
    "BMP": lambda side: saved("BMP", 3, side),
    "TIFF": lambda side: saved("TIFF", 3, side),
    "TIFF, LZW": lambda side: saved("TIFF", 3, side, compression="tiff_lzw"),
    "TIFF, JPEG": lambda side: saved("TIFF", 3, side, compression="jpeg"),
    "TIFF, group 4": lambda side: saved("TIFF", 1, side, mode="1", compression="group4"),
    "AVIF": lambda side: saved("AVIF", 3, side, speed=10),
    "AVIF, RGB and alpha": lambda side: saved("AVIF", 4, side, speed=10),
    "HEIC": lambda side: saved("HEIF", 3, side, quality=40, enc_params={"preset": "ultrafast"}),
}
WRITTEN = {"PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp", "TIFF": "image/tiff"}


def row_of(name: str, side: int) -> list[str]:
    """Return the longest waits while a file is read, and written."""
    file, limit = READ[name](side), 2 * side**2
    allow_pixels(limit)
    cells = [f"{len(file) / 2**20:.1f} MiB", _shown(partial(decode_image, file, max_pixels=limit, max_frames=1))]
    if name in WRITTEN:
        image = Image(np.ascontiguousarray(np.moveaxis(planes_of(3, side), 2, 0))[None])
        return [name, *cells, _shown(partial(encode_image, image, WRITTEN[name]))]
    return [name, *cells, "-"]


def _shown(work: Callable[[], object]) -> str:
    return f"{min(longest_hold_s(work) for _ in range(ROUNDS)) * 1000:.0f} ms"


def measure(words: Sequence[str]) -> str:
    """Return the table of all kinds of files, or of the named ones."""
    parser = selecting("reliability gil", __doc__, what="rows")
    parser.add_argument("--megapixels", type=float, default=MEGAPIXELS, help=f"size of the pictures ({MEGAPIXELS})")
    chosen = parser.parse_args(words)
    names = selected(READ, chosen.parts)
    side = math.isqrt(int(chosen.megapixels * 10**6))
    return table(["file", "size", "reading", "writing"], [row_of(name, side) for name in names])
