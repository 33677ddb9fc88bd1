"""The estimator of the noise level, fitted to the levels with which the trained network restores best.

If a request has no level, the service needs one for the network. White noise can be measured; noise of a camera or a
JPEG looks weaker than it is, and the best level then differs from its strength. So the estimator is fitted to the
network: patches are degraded in every way, and the network restores each of them at all `LEVELS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Metric
from service.contract.noise import LEAST_SIDE, TILE, UNIT, features, root_level, white_level
from service.contract.sections import LevelEstimator, Noise
from training.measure.pictures import Restore
from training.randomness import generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.patches import UNTOLD, Patches
from training.restoration.photos import Pair, Photos
from training.trainer import descend_on

LEVELS = (0.0, 1.5, 3.0, 5.0, 8.0, 11.0, 15.0, 20.0, 26.0, 33.0, 43.0, 55.0)  # 0-255 units
KINDS = {
    "clipped": 0.22, "gaussian": 0.08, "poisson": 0.05, "jpeg": 0.25, "compressed": 0.15, "camera": 0.15, "clean": 0.1,
}  # fmt: skip
SIZES = (1.0, 0.75, 0.5)
WEAK_SHARE, WEAK_SIGMA = 0.4, 12.0  # of the patches, which have no stronger noise than that
FLOOR = (0.7 / UNIT) ** 2  # an error that nobody sees: below it, more decibels are no gain
NETWORKS, HIDDEN, STEPS, RATE, DECAY, JITTER = 2, 24, 600, 1e-2, 0.1, 0.2
MOST_LOST_DB = 6.0  # what a patch may lose in the objective, so that a few flat ones do not rule it
DIGITS = 4  # of the numbers in the manifest
_SPOIL, _FIT = 21, 22  # streams of the seed


@dataclass(frozen=True)
class Known:
    """Patches with known losses at each level: features, estimated level of white noise, and losses.

    Attributes:
        rows: (N, features).
        white: (N,), 0-255 units.
        lost_db: (N, levels), decibels below the best of `levels`.
        levels: Ascending, 0-255 units.
    """

    rows: NDArray[np.float64]
    white: NDArray[np.float64]
    lost_db: NDArray[np.float64]
    levels: tuple[float, ...]


def noise_of(
    restore: Restore, photos: Photos, recipe: RestorationRecipe, *, progress: bool = False
) -> tuple[Noise, tuple[Metric, ...]]:
    """Return the manifest's section on noise levels, and the loss of its estimator on the held-out pictures.

    The estimator is fitted on `recipe.level.patches` patches of the training pictures. It is omitted if that is 0, if
    all pictures are tiny, or if the network is trained to work without a level.
    """
    noise, count = Noise(min_sigma=0.0, max_sigma=recipe.degradation.max_sigma), recipe.level.patches
    if recipe.degradation.untold:
        return noise.model_copy(update={"untold": UNTOLD}), ()
    known = look(restore, photos.train, recipe, count=count, progress=progress) if count else None
    if known is None:
        return noise, ()
    estimator = fit(known, seed=recipe.training.seed)
    held_out = look(restore, photos.validation, recipe, count=-(-count // 4), progress=progress)
    metrics = () if held_out is None else (lost_by(estimator, held_out, name=photos.name),)
    return noise.model_copy(update={"estimator": estimator}), metrics


def look(
    restore: Restore, pairs: Sequence[Pair], recipe: RestorationRecipe, *, count: int, progress: bool = False
) -> Known | None:
    """Measure the loss of the network at each level on patches that are degraded in every way.

    Return None if all pictures are tiny.
    """
    most = recipe.degradation.max_sigma
    levels = (*(level for level in LEVELS if level < most), most)
    weak = round(count * WEAK_SHARE)
    rows, white, errors = [], [], []
    for sigma, number in ((min(WEAK_SIGMA, most), weak), (most, count - weak)):
        patches = _patches(pairs, recipe, sigma)
        if patches is None:
            return None
        for i in tqdm(range(number), desc="levels", unit="patch", disable=not progress):
            batch = patches.draw(generator_for(recipe.training.seed + _SPOIL, round(sigma) * 100_000 + i))
            x = batch.x_in[0].numpy()
            rows.append(features(x))
            white.append(white_level(x))
            answers = (restore(batch.x_in, level).clamp(0.0, 1.0) for level in levels)
            errors.append([float((answer - batch.x).square().mean()) for answer in answers])
    decibels = 10 * np.log10(np.array(errors) + FLOOR)
    return Known(np.array(rows), np.array(white), decibels - decibels.min(axis=1, keepdims=True), levels)


def fit(known: Known, *, seed: int) -> LevelEstimator:
    """Fit the estimator that loses the fewest dB on these patches: the mean of a few small networks."""
    center, spread = known.rows.mean(axis=0), known.rows.std(axis=0) + 1e-3
    f = torch.from_numpy(np.clip((known.rows - center) / spread, -4, 4)).float()
    roots, lost = torch.tensor(known.levels).sqrt(), torch.from_numpy(known.lost_db).float()
    networks = [_fit_one(f, roots, lost, generator_for(seed + _FIT, i)) for i in range(NETWORKS)]
    return LevelEstimator(
        features="haar-1",
        center=_numbers(center),
        spread=_numbers(spread),
        hidden=tuple(_numbers(row) for net in networks for row in net.first.weight.detach().numpy()),
        hidden_bias=_numbers(np.concatenate([net.first.bias.detach().numpy() for net in networks])),
        out=_numbers(np.concatenate([net.last.weight.detach().numpy()[0] for net in networks]) / NETWORKS),
        out_bias=_numbers(np.mean([net.last.bias.detach().numpy() for net in networks], axis=0))[0],
    )


def lost_by(estimator: LevelEstimator, known: Known, *, name: str) -> Metric:
    """Return the dB lost by the estimator, with the level of white noise as its baseline."""
    said = [root_level(row, estimator) for row in known.rows]
    return Metric(
        name="denoise_db_lost_by_estimate",
        task="denoise",
        value=float(np.mean(lost_at(known, np.array(said)))),
        unit="dB below the best level for each patch, mean over patches",
        data=f"{len(known.rows)} patches of pictures of {name} that it was not fitted on, spoiled in every way",
        higher_is_better=False,
        baselines={"the level of white noise": float(np.mean(lost_at(known, np.sqrt(known.white))))},
    )


def lost_at(known: Known, roots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the dB lost by each patch at the level `roots` squared, (N,), by linear interpolation."""
    ascending = np.sqrt(known.levels)
    return np.array([np.interp(root, ascending, lost) for root, lost in zip(roots, known.lost_db, strict=True)])


def _patches(pairs: Sequence[Pair], recipe: RestorationRecipe, sigma: float) -> Patches | None:
    side = min(TILE, max((min(pair.clean.shape[1:]) for pair in pairs), default=0) // LEAST_SIDE * LEAST_SIDE)
    if side < LEAST_SIDE:
        return None
    data = recipe.data.model_copy(update={"sizes": SIZES})
    spoiled = recipe.degradation.model_copy(update={"max_sigma": sigma, "kinds": KINDS})
    drawn = recipe.training.model_copy(update={"patch": side, "batch_size": 1, "candidates": 2})
    return Patches(pairs, recipe.model_copy(update={"data": data, "degradation": spoiled, "training": drawn}))


class _Network(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, f: Float[Tensor, "patch feature"]) -> Float[Tensor, " patch"]:
        u: Tensor = self.last(self.first(f).relu())[:, 0]
        return u


def _fit_one(f: Tensor, roots: Tensor, lost: Tensor, generator: torch.Generator) -> _Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        network = _Network(f.shape[1])
    nn.init.constant_(network.last.bias, float(roots[len(roots) // 2]))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)

    def loss() -> Tensor:
        u = network(f + JITTER * torch.randn(f.shape, generator=generator))
        outside = (u - roots[-1]).clamp_min(0) + (-u).clamp_min(0)  # where the curve is level, pull back
        mean: Tensor = (_interpolated(lost, roots, u).clamp_max(MOST_LOST_DB) + outside).mean()
        return mean

    descend_on(loss, falling, steps=STEPS, name="estimator", progress=False)
    return network


def _interpolated(lost: Tensor, roots: Tensor, u: Tensor) -> Tensor:
    u = u.clamp(float(roots[0]), float(roots[-1]))
    i = torch.bucketize(u.detach(), roots[1:-1], right=True)
    share = (u - roots[i]) / (roots[i + 1] - roots[i])
    row = torch.arange(len(lost))
    return lost[row, i] * (1 - share) + lost[row, i + 1] * share


def _numbers(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
