"""`python -m benchmarks.models real-noise`: noise of real cameras and films, unseen in training."""

from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.models.pictures import (
    DEFAULT,
    STRIP_SIDE,
    Case,
    default_of,
    open_model,
    pictures,
    strip,
    table,
)
from benchmarks.page import write_between
from training.errors import DataError
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.measure.pictures import Restore
from training.picture import middle
from training.restoration.photos import read_photos

SIGMAS = (5.0, 7.5, 10.0, 12.5, 20.0)  # 0-255 units; nobody knows the right one
MOST = 40  # pairs
OTHER = "photo-bsds, default"


def benchmark_real_noise(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure `photo` on pairs from cameras, and show results on pictures without ground truth.

    Args:
        data: Folder with polyu_real_noise/CroppedImages and denoise/RNI6.
        models: Directory of published models.
        docs: Folder with restoration.md and images/.
        is_quick: Use a few pairs, and do not write the page.
    """
    restore = open_model(models, "photo", "denoise")
    cases = camera_pairs(data)[: 3 if is_quick else MOST]
    methods: dict[str, Restore] = {
        f"given sigma {sigma:g}": lambda x, _, sigma=sigma: restore(x, sigma)  # type: ignore[misc]
        for sigma in SIGMAS
    }
    default = {DEFAULT: default_of(models, "photo"), OTHER: default_of(models, "photo-bsds")}
    title = "PolyU, noise of real cameras"
    found = list(
        table(title, {**default, **methods, "unprocessed": lambda x, _: x}, cases, picture="restoration-camera")
    )
    lines, images = [text for text, _ in found], {name: content for _, made in found for name, content in made.items()}
    noisy = [to_pixels(photo)[None] for photo in pictures(data / "denoise" / "RNI6", 3, 6)]
    rows = {
        "unprocessed": torch.cat([middle(x, STRIP_SIDE) for x in noisy]),
        DEFAULT: torch.cat([middle(default[DEFAULT](x, 0.0).clamp(0, 1), STRIP_SIDE) for x in noisy]),
    }
    images["restoration-rni6"] = strip(rows)
    lines.append("RNI6, real noise without a truth\n\n![RNI6](images/restoration-rni6.png)")
    tqdm.write("\n\n".join(lines))
    if is_quick:
        return
    write_between(docs / "restoration.md", "real", lines)
    for name, content in images.items():
        with write_atomically(docs / "images" / f"{name}.png") as file:
            file.write(content)


def camera_pairs(data: Path) -> list[Case]:
    """Return single shots of PolyU, and the means of hundreds of them.

    Raises:
        DataError: The folder has no such pairs.
    """
    folder = data / "polyu_real_noise" / "CroppedImages"
    photos = read_photos(folder, 3, validation=0, least_side=1, progress=False).train
    by_name = {pair.name: to_pixels(pair.clean)[None] for pair in photos}
    pairs = [
        Case(x, 0.0, by_name[clean])
        for name, x in sorted(by_name.items())
        if "_real" in name and (clean := name.replace("_real", "_mean").replace("_Real", "_mean")) in by_name
    ]
    if not pairs:
        raise DataError(f"{folder}: no pairs of NAME_real and NAME_mean in it")
    return pairs
