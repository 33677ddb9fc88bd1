"""Pictures of the benchmarks: real ones from tests/data, and synthetic ones of any size."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import ROOT

Planes = NDArray[np.uint8]
NOISY, CLEAN = ((ROOT / "tests" / "data" / name).read_bytes() for name in ("digit_noisy.png", "digit.png"))


def picture(side: int, channels: int) -> Planes:
    """Draw smooth shapes with a little noise, like a photograph, (C, side, side)."""
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin((5 + c) * x + 3 * np.cos(4 * y)) for c in range(channels)])
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    return np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)


def png_by_pillow(planes: Planes) -> bytes:
    """Encode a PNG by Pillow with its fastest compression."""
    file = io.BytesIO()
    values = planes[0] if len(planes) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()


def npy_of(file: bytes) -> bytes:
    """Convert an image file to its grey pixels as NPY."""
    out = io.BytesIO()
    np.save(out, np.asarray(Image.open(io.BytesIO(file)).convert("L")))
    return out.getvalue()
