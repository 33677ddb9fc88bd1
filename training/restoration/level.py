"""The estimator of the noise level, fitted to the levels with which the trained network restores best.

If a request has no level, the service needs one for the network. White noise can be measured; noise of a camera or a
JPEG looks weaker than it is, and the best level then differs from its strength. So the estimator is fitted to the
network: patches are degraded in every way, and the network restores each of them at all `LEVELS`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Metric
from service.contract.noise import LEAST_SIDE, TILE, UNIT, features, root_levels, white_level
from service.contract.sections import LevelEstimator, Noise
from training.measure.pictures import Restore
from training.randomness import generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.degradations import kept
from training.restoration.patches import UNTOLD, Images, Patches
from training.restoration.photos import Pair, Photos
from training.trainer import descend_on

LEVELS = (0.0, 0.6, 1.5, 3.0, 5.0, 8.0, 11.0, 15.0, 20.0, 26.0, 33.0, 43.0, 55.0)  # 0-255 units
KINDS = {
    "clipped": 0.22, "gaussian": 0.08, "poisson": 0.05, "jpeg": 0.25, "compressed": 0.1, "finely_compressed": 0.1,
    "camera": 0.15, "clean": 0.05,
}  # fmt: skip
SIZES = (1.0, 0.75, 0.5)
SHARES = {4.0: 0.15, 12.0: 0.4, 255.0: 0.45}  # of the patches, by the strongest noise that they have
KEPT_SHARE = 0.05  # as many more are JPEG files that need nothing
FLOOR = (0.7 / UNIT) ** 2  # an error that nobody sees: below it, more decibels are no gain
NETWORKS, HIDDEN, RATE, DECAY, JITTER = 2, 48, 1e-2, 0.1, 0.1
MOST_STEPS = 4000  # of few patches there is less to learn
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
    drawn = _drawn(pairs, recipe, count)
    if drawn is None:
        return None
    rows, white, decibels = [], [], []
    total = count + round(count * KEPT_SHARE)
    for x_in, x in tqdm(drawn, desc="levels", total=total, unit="patch", disable=not progress):
        rows.append(features(x_in[0].numpy()))
        white.append(white_level(x_in[0].numpy()))
        decibels.append(_decibels(restore, x_in, x, levels))
    lost_db = np.array(decibels) - np.min(decibels, axis=1, keepdims=True)
    return Known(np.array(rows), np.array(white), lost_db, levels)


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
    return Metric(
        name="denoise_db_lost_by_estimate",
        task="denoise",
        value=float(np.mean(lost_at(known, root_levels(known.rows, estimator)))),
        unit="dB below the best level for each patch, mean over patches",
        data=f"{len(known.rows)} patches of pictures of {name} that it was not fitted on, spoiled in every way",
        higher_is_better=False,
        baselines={"the level of white noise": float(np.mean(lost_at(known, np.sqrt(known.white))))},
    )


def lost_at(known: Known, roots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the dB lost by each patch at the level `roots` squared, (N,), by linear interpolation."""
    ascending = np.sqrt(known.levels)
    return np.array([np.interp(root, ascending, lost) for root, lost in zip(roots, known.lost_db, strict=True)])


def _drawn(pairs: Sequence[Pair], recipe: RestorationRecipe, count: int) -> Iterator[tuple[Images, Images]] | None:
    """Draw inputs and targets, one by one: `count` that are degraded, and some that need nothing."""
    side = min(TILE, max((min(pair.clean.shape[1:]) for pair in pairs), default=0) // LEAST_SIDE * LEAST_SIDE)
    if side < LEAST_SIDE:
        return None
    seed, data = recipe.training.seed + _SPOIL, recipe.data.model_copy(update={"sizes": SIZES})
    training = recipe.training.model_copy(update={"patch": side, "batch_size": 1, "candidates": 1})

    def patches(sigma: float, kinds: dict[str, float]) -> Patches:
        spoiled = recipe.degradation.model_copy(update={"max_sigma": sigma, "kinds": kinds})
        return Patches(pairs, recipe.model_copy(update={"data": data, "degradation": spoiled, "training": training}))

    def draw() -> Iterator[tuple[Images, Images]]:
        ends = np.rint(np.cumsum([0.0, *SHARES.values()]) * count).astype(int).tolist()
        for number, (sigma, (start, end)) in enumerate(zip(SHARES, pairwise(ends), strict=True)):
            degraded = patches(min(sigma, recipe.degradation.max_sigma), KINDS)
            for i in range(end - start):
                batch = degraded.draw(generator_for(seed, number * 100_000 + i))
                yield batch.x_in, batch.x
        clean = patches(0.0, {"clean": 1.0})
        for i in range(round(count * KEPT_SHARE)):
            generator = generator_for(seed, len(SHARES) * 100_000 + i)
            yield kept(clean.draw(generator).x, generator)

    return draw()


def _decibels(restore: Restore, x_in: Images, x: Images, levels: Sequence[float]) -> list[float]:
    """Return the error at each level, in dB; as of the last level that matters beyond it."""
    errors: list[float] = []
    for level in levels:
        error = float((restore(x_in, level).clamp(0.0, 1.0) - x).square().mean())
        errors.append(10 * math.log10(error + FLOOR))
        if errors[-1] > min(errors) + MOST_LOST_DB:  # it rises from here on
            break
    return errors + errors[-1:] * (len(levels) - len(errors))


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
    steps = min(MOST_STEPS, 200 + 2 * len(f))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)

    def loss() -> Tensor:
        u = network(f + JITTER * torch.randn(f.shape, generator=generator))
        outside = (u - roots[-1]).clamp_min(0) + (-u).clamp_min(0)  # where the curve is level, pull back
        mean: Tensor = (_interpolated(lost, roots, u).clamp_max(MOST_LOST_DB) + outside).mean()
        return mean

    descend_on(loss, falling, steps=steps, name="estimator", progress=False)
    return network


def _interpolated(lost: Tensor, roots: Tensor, u: Tensor) -> Tensor:
    u = u.clamp(float(roots[0]), float(roots[-1]))
    i = torch.bucketize(u.detach(), roots[1:-1], right=True)
    share = (u - roots[i]) / (roots[i + 1] - roots[i])
    row = torch.arange(len(lost))
    return lost[row, i] * (1 - share) + lost[row, i + 1] * share


def _numbers(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
