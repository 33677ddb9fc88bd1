"""`python -m benchmarks.models blind`: training with and without clean pictures.

The same network is trained twice on the same noisy photographs, with equal steps: once with clean targets, once without
(Noise2Void). Both are measured on Set12 with the same noise of 8-bit files.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from benchmarks.models.pictures import Case, noisy, pictures
from benchmarks.models.pictures import table as table_of
from benchmarks.page import write_between
from training.architectures.restorer import SIGMA_UNIT
from training.images.pixels import to_pixels
from training.measure.pictures import Restore
from training.problems.pictures import job
from training.randomness import generator_for
from training.recipe import load_recipe
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import clipped
from training.restoration.photos import Pair, Photos, read_photos
from training.trainer import train

SIGMA = 25.0  # 0-255 units
STEPS, QUICK_STEPS = 2000, 20


def benchmark_blind(data: Path, _: Path, docs: Path, *, is_quick: bool) -> None:
    """Train and measure both.

    Args:
        data: Folder with bsds500 and denoise/Set12.
        docs: Folder with restoration.md.
        is_quick: Train a few steps, and do not write the page.
    """
    recipe = load_recipe("blind", ("data.channels=1", f"training.steps={QUICK_STEPS if is_quick else STEPS}"))
    assert isinstance(recipe, RestorationRecipe)
    photos = read_photos(data / "bsds500", 1, validation=20, least_side=64, progress=False)
    photos = _noisy_copy(photos, SIGMA, recipe.training.seed)
    methods: dict[str, Restore] = {
        "with clean pictures": _trained(photos, recipe.model_copy(update={"kind": "restore"})),
        "noisy pictures alone": _trained(_without_clean(photos), recipe),
        "unprocessed": lambda x, _: x,
    }
    cases: list[Case] = list(noisy(pictures(data / "denoise/Set12", 1, 100), SIGMA, "clipped"))
    title = f"Set12, grey, clipped noise of {SIGMA:g}, after {recipe.training.steps} steps"
    lines = [text for text, _ in table_of(title, methods, cases)]
    tqdm.write("\n".join(lines))
    if not is_quick:
        write_between(docs / "restoration.md", "blind", lines)


def _trained(photos: Photos, recipe: RestorationRecipe) -> Restore:
    device = torch.device("cpu")
    work = job(recipe, photos, device)
    with TemporaryDirectory() as folder:
        train(work, run_dir=Path(folder), device=device, progress=True)

    @torch.no_grad()
    def restore(x: torch.Tensor, _: float) -> torch.Tensor:
        answer: torch.Tensor = work.network(x)
        return answer

    return restore


def _noisy_copy(photos: Photos, sigma: float, seed: int) -> Photos:
    """Return the pictures with 8-bit noise of `sigma` (0-255 units), the same at every call."""

    def pairs(part: tuple[Pair, ...], offset: int) -> tuple[Pair, ...]:
        made: list[Pair] = []
        for number, pair in enumerate(part):
            noise = generator_for(seed, offset + number)
            noisy = clipped(to_pixels(pair.clean)[None], torch.full((1,), sigma), noise)[0]
            made.append(replace(pair, degraded=(noisy * SIGMA_UNIT).round().byte()))
        return tuple(made)

    return replace(photos, train=pairs(photos.train, 0), validation=pairs(photos.validation, 1_000_000))


def _without_clean(photos: Photos) -> Photos:
    """Return the same photographs without clean targets."""
    train, validation = (
        tuple(replace(pair, clean=pair.degraded) for pair in part) for part in (photos.train, photos.validation)
    )
    return replace(photos, train=train, validation=validation)
