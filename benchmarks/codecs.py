"""PNG in and out: our fast lane beside Pillow alone, in CPU time.

    python -m benchmarks.codecs

Random noise over smooth shapes, 8-bit grey and RGB, at the sizes of a digit, a part and a photograph. Reading is
everything from the file to the array with every guard; "Pillow" is the same path with the fast lane switched off.
Each figure is the best of several rounds, in which the candidates take turns.
"""

import argparse
import io
import time
from collections.abc import Callable, Hashable
from typing import TypeVar
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.images.codec import decode_image
from service.images.png import write_png

SIDES = (28, 256, 1000, 3464)  # the last one has 12 megapixels
ROUNDS = 7
MAX_PIXELS = 25_000_000
Key = TypeVar("Key", bound=Hashable)


def picture(side: int, channels: int) -> NDArray[np.uint8]:
    """(C, side, side): smooth shapes and a little noise, as cameras see them."""
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin((5 + c) * x + 3 * np.cos(4 * y)) for c in range(channels)])
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    return np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)


def by_pillow(planes: NDArray[np.uint8]) -> bytes:
    """The file as Pillow writes it, as fast as it can without storing it raw."""
    file = io.BytesIO()
    values = planes[0] if len(planes) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    PillowImage.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()


def cpu_seconds(functions: dict[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """CPU seconds per call, the best of `ROUNDS`; in every round each function has its turn."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            started = time.process_time()
            for _ in range(repeats):
                function()
            best[name] = min(best[name], (time.process_time() - started) / repeats)
    return best


def read_without_the_fast_lane(file: bytes) -> object:
    """As on a machine for which its package has no wheel."""
    with mock.patch("service.images.png.pyspng", None):
        return decode_image(file, max_pixels=MAX_PIXELS, max_frames=1)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(f"{'image':>12} {'':8} {'ours':>12} {'Pillow':>12} {'gain':>6} {'size, ours : Pillow':>20}")
    for side in SIDES:
        for channels in (1, 3):
            planes = picture(side, channels)
            file = by_pillow(planes)
            repeats = max(1, 200_000 // planes.size)
            reads = cpu_seconds(
                {
                    "ours": lambda file=file: decode_image(file, max_pixels=MAX_PIXELS, max_frames=1),
                    "pillow": lambda file=file: read_without_the_fast_lane(file),
                },
                repeats,
            )
            writes = cpu_seconds(
                {"ours": lambda p=planes: write_png(p), "pillow": lambda p=planes: by_pillow(p)},
                repeats,
            )
            size = f"{len(write_png(planes)) / len(file):.2f}"
            for verb, seconds in (("read", reads), ("write", writes)):
                label = f"{side}x{side}x{channels}"
                print(
                    f"{label:>12} {verb:8} {seconds['ours'] * 1e6:9.1f} us {seconds['pillow'] * 1e6:9.1f} us "
                    f"{seconds['pillow'] / seconds['ours']:5.1f}x {size if verb == 'write' else '':>20}"
                )


if __name__ == "__main__":
    main()
