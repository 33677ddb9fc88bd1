"""How well the service guesses the noise of a picture when a request to /denoise does not say it.

    python -m benchmarks.noise DATA/denoise/Set12

Every clean picture of the folder gets noise of a known strength, as white noise, as a clipped 8-bit file, and through
JPEG. A row has the mean of the guesses, and the least and the largest of them (0-255 units).
"""

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from tqdm import tqdm

from service.images.image import Image
from service.images.noise import estimate_sigma

SIGMAS = (0, 5, 10, 25, 50)
QUALITIES = (95, 75, 60)


def through_jpeg(values: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture as a JPEG file gives it back."""
    file = io.BytesIO()
    PillowImage.fromarray(values).save(file, "JPEG", quality=quality)
    return np.asarray(PillowImage.open(file))


def guesses(clean: NDArray[np.float32], sigma: float, rng: np.random.Generator) -> list[float]:
    """The guess for white noise, for 8 bits and for each quality of JPEG."""
    noisy = (clean + rng.standard_normal(clean.shape, np.float32) * sigma) / 255
    levels = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    kinds = [noisy, levels, *(through_jpeg(levels, quality) for quality in QUALITIES)]
    return [estimate_sigma(Image(np.asarray(kind)[None, None])) for kind in kinds]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures (PNG), taken as grey")
    paths = sorted(parser.parse_args().folder.glob("*.png"))
    if not paths:
        parser.error("there are no PNG files in that folder")
    pictures = [np.asarray(PillowImage.open(path).convert("L"), np.float32) for path in paths]
    names = ["white", "8 bits", *(f"JPEG {quality}" for quality in QUALITIES)]
    print(f"| sigma | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for sigma in tqdm(SIGMAS, leave=False):
        rng = np.random.default_rng(sigma)
        found = np.array([guesses(picture, sigma, rng) for picture in pictures])
        cells = [f"{c.mean():.1f} ({c.min():.1f}-{c.max():.1f})" for c in found.T]
        tqdm.write(f"| {sigma} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
