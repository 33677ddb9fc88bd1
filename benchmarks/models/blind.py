"""`python -m benchmarks.models blind`: training with and without clean pictures.

The same network is trained twice on the same noisy photographs, with equal steps: once with clean targets, once without
(Noise2Void). Both are measured on Set12 with the same noise of 8-bit files. Then a folder of camera pictures (PolyU) is
cleaned by a network that has learned from that folder alone, as a user's would be, beside `photo`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from benchmarks.models.camera_noise import MOST, camera_pairs
from benchmarks.models.pictures import Case, default_of, noisy, pictures
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
STEPS, QUICK_STEPS = {"noise": 2000, "cameras": 1000}, 20

Measured = tuple[str, dict[str, Restore], list[Case]]  # title, methods, pictures


def benchmark_blind(data: Path, models: Path, docs: Path, *, is_quick: bool, only: Sequence[str] | None = None) -> None:
    """Train and measure.

    Args:
        data: Folder with bsds500 and denoise/Set12, and with polyu_real_noise.
        models: Directory of published models.
        docs: Folder with restoration.md.
        is_quick: Train a few steps, and do not write the page.
        only: Names of the sections; all if left out.
    """
    for name in only or SECTIONS:
        title, methods, cases = SECTIONS[name](data, models, QUICK_STEPS if is_quick else STEPS[name])
        lines = [text for text, _ in table_of(title, methods, cases[: 3 if is_quick else MOST])]
        tqdm.write("\n".join(lines))
        if not is_quick:
            write_between(docs / "restoration.md", f"blind-{name}", lines)


def _noise(data: Path, _: Path, steps: int) -> Measured:
    recipe = _recipe(f"training.steps={steps}", "data.channels=1")
    photos = read_photos(data / "bsds500", 1, validation=20, least_side=64, progress=False)
    photos = _noisy_copy(photos, SIGMA, recipe.training.seed)
    methods: dict[str, Restore] = {
        "with clean pictures": _trained(photos, recipe.model_copy(update={"kind": "restore"})),
        "noisy pictures alone": _trained(_without_clean(photos), recipe),
        "unprocessed": lambda x, _: x,
    }
    cases = list(noisy(pictures(data / "denoise/Set12", 1, 100), SIGMA, "clipped"))
    return f"Set12, grey, clipped noise of {SIGMA:g}, after {steps} steps", methods, cases


def _cameras(data: Path, models: Path, steps: int) -> Measured:
    cases = camera_pairs(data)[:MOST]
    shots = [(case.x_in[0] * SIGMA_UNIT).round().byte() for case in cases]
    pairs = tuple(Pair(f"{i}", shot, shot) for i, shot in enumerate(shots))
    methods: dict[str, Restore] = {
        "photo, default": default_of(models, "photo"),
        "noisy pictures alone": _trained(Photos("PolyU", "", pairs, pairs[:2], ()), _recipe(f"training.steps={steps}")),
        "unprocessed": lambda x, _: x,
    }
    return f"PolyU, noise of real cameras, learned from these pictures in {steps} steps", methods, cases


SECTIONS: dict[str, Callable[[Path, Path, int], Measured]] = {"noise": _noise, "cameras": _cameras}


def _recipe(*settings: str) -> RestorationRecipe:
    recipe = load_recipe("blind", settings)
    assert isinstance(recipe, RestorationRecipe)
    return recipe


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
