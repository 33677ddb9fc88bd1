"""`python -m benchmarks.models noise`: accuracy of the service's noise estimate.

Every clean picture of Set12 gets noise of a known strength, as white noise, as a clipped 8-bit file, and through JPEG.
A row has mean, minimum and maximum of the estimates (0-255 units).
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from tqdm import tqdm

from benchmarks.page import table, write_between
from service.images.image import Image
from service.images.noise import estimate_sigma
from training.errors import DataError

SIGMAS = (0, 5, 10, 25, 50)
QUALITIES = (95, 75, 60)
KINDS = ("white", "8 bits", *(f"JPEG {quality}" for quality in QUALITIES))


def benchmark(data: Path, _: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure the estimates.

    Args:
        data: Folder with denoise/Set12, PNG files that are taken as grey.
        docs: Folder with restoration.md.
        is_quick: Use two pictures, and do not write the page.

    Raises:
        DataError: The pictures are missing.
    """
    folder = data / "denoise" / "Set12"
    paths = sorted(folder.glob("*.png"))[: 2 if is_quick else None]
    if not paths:
        raise DataError(f"{folder}: no PNG files in it")
    pictures = [np.asarray(PillowImage.open(path).convert("L"), np.float32) for path in paths]
    rows = []
    for sigma in tqdm(SIGMAS, desc="noise", leave=False):
        rng = np.random.default_rng(sigma)
        found = np.array([guesses(picture, sigma, rng) for picture in pictures])
        rows.append([f"{sigma}", *(f"{c.mean():.1f} ({c.min():.1f}-{c.max():.1f})" for c in found.T)])
    text = table(["sigma", *KINDS], rows)
    tqdm.write(text)
    if not is_quick:
        write_between(docs / "restoration.md", "noise", [text])


def guesses(clean: NDArray[np.float32], sigma: float, rng: np.random.Generator) -> list[float]:
    """Return the estimate for each of KINDS."""
    noisy = (clean + rng.standard_normal(clean.shape, np.float32) * sigma) / 255
    levels = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    kinds = [noisy, levels, *(through_jpeg(levels, quality) for quality in QUALITIES)]
    return [estimate_sigma(Image(np.asarray(kind)[None, None])) for kind in kinds]


def through_jpeg(values: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress and decompress a picture as JPEG."""
    file = io.BytesIO()
    PillowImage.fromarray(values).save(file, "JPEG", quality=quality)
    return np.asarray(PillowImage.open(file))
