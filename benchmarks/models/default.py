"""`python -m benchmarks.models default`: results of `photo` and `photo-bsds` without a given noise level.

The inputs are crops of pictures unseen in training, degraded in many ways. The pictures are JPEG files themselves, so
crops begin off their grid of blocks; the row "saved again" is on the grid. The default, the model's estimator, is
compared with the level of white noise and with the one level that is best for all pictures of a row.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.models.pictures import default_of, held_out, newest_manifest, open_model
from benchmarks.page import table, write_between
from service.contract.noise import white_level
from service.contract.sections import Noise
from service.images.image import Image
from service.images.noise import level_of
from training.images.pixels import to_pixels
from training.measure.pictures import Restore
from training.measure.plane_files import OFFSET
from training.measure.psnr import TEST_NOISE_SEED, psnr_db
from training.picture import middle
from training.randomness import generator_for
from training.restoration.degradations import clean, clipped, through_jpeg

SIDE, MOST = 256, 4  # pixels, and pictures
TOLD = (0.0, 5.0, 10.0, 20.0, 25.0, 30.0, 50.0)  # 0-255 units
QUALITIES = (10, 30, 50, 75, 85, 95)
SAVED_AGAIN = "a JPEG saved again, 95 in 4:2:0"
SAME_DB = 100.0  # of two pictures that do not differ
Spoil = Callable[[Tensor, Generator], Tensor]


def _noisy(x: Tensor, generator: Generator, *, sigma: float) -> Tensor:
    return clipped(x, torch.full((1,), sigma), generator)


def _in_jpeg(x: Tensor, generator: Generator, *, sigma: float, quality: int, sampling: int) -> Tensor:
    return through_jpeg(clipped(x, torch.full((1,), sigma), generator)[0], quality, sampling)[None]


SPOILED: dict[str, Spoil] = {
    **{f"PNG, noise of {sigma:g}": partial(_noisy, sigma=sigma) for sigma in (15.0, 25.0, 50.0)},
    **{
        f"JPEG {quality} in {name}, noise of {sigma:g}": partial(
            _in_jpeg, sigma=sigma, quality=quality, sampling=sampling
        )
        for sigma, quality in ((25.0, 95), (25.0, 85), (25.0, 75), (10.0, 85))
        for name, sampling in (("4:4:4", 0), ("4:2:0", 2))
    },
    **{f"JPEG {q} in 4:2:0, no noise": partial(_in_jpeg, sigma=0.0, quality=q, sampling=2) for q in QUALITIES},
    "JPEG 95 in 4:4:4, no noise": partial(_in_jpeg, sigma=0.0, quality=95, sampling=0),
    "clean PNG": lambda x, generator: clean(x, torch.zeros(1), generator),
    SAVED_AGAIN: partial(_in_jpeg, sigma=0.0, quality=95, sampling=2),
}


def benchmark(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure the default and its baselines.

    Args:
        data: Folder with bsds500.
        models: Directory of published models.
        docs: Folder with restoration.md.
        is_quick: Use two pictures, and do not write the page.

    Raises:
        DataError: The pictures or the model are missing.
    """
    restore, noise = open_model(models, "photo", "denoise"), newest_manifest(models, "photo").noise
    assert noise is not None
    other = default_of(models, "photo-bsds")
    pictures = [to_pixels(pair.clean)[None] for pair in held_out(data, 3)[: 2 if is_quick else MOST]]
    off_grid = [middle(x[..., OFFSET:, OFFSET:], SIDE) for x in pictures]
    on_grid = [middle(x, SIDE) for x in pictures]
    rows = [
        _row(name, spoil, on_grid if name == SAVED_AGAIN else off_grid, restore=restore, noise=noise, other=other)
        for name, spoil in tqdm(SPOILED.items(), desc="default", leave=False)
    ]
    head = [
        "mean PSNR, dB (level)",
        "unprocessed",
        "level of white noise",
        "default",
        "best given sigma",
        "`photo-bsds`, default",
    ]
    text = table(head, rows)
    tqdm.write(text)
    if not is_quick:
        write_between(docs / "restoration.md", "default", [text])


def _row(
    name: str, spoil: Spoil, pictures: Sequence[Tensor], *, restore: Restore, noise: Noise, other: Restore
) -> list[str]:
    pairs = [(spoil(x, generator_for(TEST_NOISE_SEED, i)), x) for i, x in enumerate(pictures)]
    said = [level_of(Image(x_in.numpy()), noise, channels=3) for x_in, _ in pairs]
    white = [min(white_level(x_in.numpy()), noise.max_sigma) for x_in, _ in pairs]
    by_level = {level: _mean_db(restore, pairs, [level] * len(pairs)) for level in TOLD}
    best = max(by_level, key=lambda level: by_level[level])
    unchanged = _mean_db(lambda x, _: x, pairs, [0.0] * len(pairs))
    return [
        name,
        f"{unchanged:.2f}",
        f"{_mean_db(restore, pairs, white):.2f} ({np.mean(white):.1f})",
        f"{_mean_db(restore, pairs, said):.2f} ({np.mean(said):.1f})",
        f"{by_level[best]:.2f} ({best:g})",
        f"{_mean_db(other, pairs, [0.0] * len(pairs)):.2f}",
    ]


def _mean_db(restore: Restore, pairs: Sequence[tuple[Tensor, Tensor]], levels: Sequence[float]) -> float:
    errors = [
        F.mse_loss(restore(x_in, level).clamp(0, 1), x).item() for (x_in, x), level in zip(pairs, levels, strict=True)
    ]
    return float(np.mean([psnr_db(error) if error else SAME_DB for error in errors]))
