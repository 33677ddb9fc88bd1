"""From normal images to a detector. What is chosen is chosen by held-out normal images and synthetic anomalies."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Real
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.anomaly.backbone import Lite0
from training.anomaly.detector import (
    Detector,
    FeatureAutoencoder,
    Neighbours,
    Positions,
    Projection,
    Reconstruction,
    Scale,
    WithinImage,
    pooled,
)
from training.anomaly.features import Gradients
from training.anomaly.measure import auroc
from training.anomaly.synthetic import synthesise
from training.config import Section
from training.images.pixels import to_pixels
from training.randomness import generator_for

FEATURES: dict[str, Callable[[], nn.Module]] = {"gradients": Gradients, "lite0": Lite0}
SMALL_SIDE = 64  # pixels; grey images up to this size need no backbone
CHUNK = 8  # images at once through the features
SAMPLED_POSITIONS = 40_000  # of all training images, for the projection and the bank
FEWEST_SYNTHETIC = 48  # anomalies that scores are weighed by
LEAST_SPREAD = 0.02  # of the mean: what few selection images say of a standard deviation is not taken below it
USUAL_SIDE = 5  # positions: what is usual at one is smoothed over as many
POSITION_DIRECTIONS = 24  # of the features, in the Gaussian of every position
FEWEST_FOR_POSITIONS = 50  # images; fewer say of a position what its neighbours and the bank say, with more noise
POSITION_PRIOR = 10.0  # images: as if so many had shown that all positions are alike
USUAL_PRIOR = 10.0  # images: as if so many had shown that all positions are alike
SHRINKAGE = 0.01  # of every direction's variance towards the mean one, so that no direction counts without limit

Images = Real[Tensor, "_ channel height width"]
FeatureMaps = Float[Tensor, "_ feature rows columns"]


class DetectorConfig(Section):
    """How a detector is learnt. At most `dimensions` are kept of the features, `bank` entries in each of its stores.

    `features` "auto" is gradients for grey images of at most 64 pixels a side, and lite0 for all others.
    """

    features: Literal["auto", "gradients", "lite0"] = "auto"
    """gradients or lite0; auto: gradients for grey images of at most 64 pixels a side, lite0 for all others."""
    dimensions: PositiveInt = 256
    """Principal directions kept of the features, at most."""
    bank: PositiveInt = 1000
    """Stored features of normal images, in each store."""
    widths: tuple[PositiveInt, ...] = (64, 64)
    """Channels of the autoencoder of features."""
    latent: PositiveInt = 24
    """Numbers that it lets through at each position."""
    steps: PositiveInt = 200
    """Batches of its training."""
    batch_size: PositiveInt = 16
    """Feature maps in a batch."""
    learning_rate: PositiveFloat = 2e-3
    """Adam's peak; a cosine leads to zero."""


def learn_detector(
    train: Images, selection: Images, config: DetectorConfig, *, seed: int, progress: bool = True
) -> Detector:
    """A detector in evaluation mode on the CPU; the same images and seed give the same weights on one machine.

    Args:
        train: Normal images that features, autoencoder and bank are learnt from.
        selection: Other normal images: the scores are standardised on them and weighed by how well they tell them
            from synthetic anomalies. They are part of what was learnt from: never calibrate on them.
        config: See `DetectorConfig`.
        seed: Of everything random.
        progress: Whether bars are shown.
    """
    features = build_features(config, train).eval()
    found = feature_maps(features, train, progress=progress)
    detector = learn_from_features(features, found, config, seed=seed, progress=progress)
    weigh(detector, selection, generator_for(seed, 4))
    return detector


def learn_from_features(
    features: nn.Module, found: FeatureMaps, config: DetectorConfig, *, seed: int, progress: bool
) -> Detector:
    """A detector whose scores are not yet weighed, from what `features` are of the training images."""
    projection, spread = fit_projection(found, config.dimensions, generator_for(seed, 1))
    f = torch.cat([projection(part) for part in torch.split(found, CHUNK)])
    autoencoder = train_autoencoder(f, config, seed=seed, progress=progress)
    # Distances are those of the standardised features: among whitened ones, directions of mere noise count as much.
    views = {"neighbours": Scale(spread), "neighbours within the image": nn.Sequential(WithinImage(), Scale(spread))}
    evidence: dict[str, nn.Module] = {
        "reconstruction": Reconstruction(autoencoder, fit_whitening(f, autoencoder, generator_for(seed, 2)))
    }
    for name, view in views.items():
        seen = torch.cat([view(part) for part in torch.split(f, CHUNK)])
        evidence[name] = nn.Sequential(view, Neighbours(coreset(seen, config.bank, generator_for(seed, 3))))
    if len(f) >= FEWEST_FOR_POSITIONS:
        evidence["positions"] = fit_positions(f)
    positions = (f.shape[2], f.shape[3])
    return Detector(features, projection, evidence, positions=positions).eval().requires_grad_(False)


def build_features(config: DetectorConfig, images: Images) -> nn.Module:
    """The features that the configuration asks for, or that suit the images."""
    name = config.features
    if name == "auto":
        _, channels, height, width = images.shape
        name = "gradients" if channels == 1 and max(height, width) <= SMALL_SIDE else "lite0"
    return FEATURES[name]()


@torch.no_grad()
def feature_maps(features: nn.Module, images: Images, *, progress: bool = False) -> FeatureMaps:
    """What the features are of every image, (N,D,h,w)."""
    chunks = tqdm(torch.split(images, CHUNK), desc="features", unit="batch", disable=not progress)
    return torch.cat([features(to_pixels(chunk)) for chunk in chunks])


def fit_projection(
    found: FeatureMaps, dimensions: int, generator: Generator
) -> tuple[Projection, Float[Tensor, " direction"]]:
    """Onto the principal directions of the standardised features, brought to unit variance; and what they had."""
    sample = sampled(found, SAMPLED_POSITIONS, generator).double()
    mean, std = sample.mean(0), sample.std(0).clamp_min(1e-6)
    z = (sample - mean) / std
    variances, directions = torch.linalg.eigh(z.T @ z / len(z))
    kept = min(dimensions, z.shape[1])
    variances, directions = variances.flip(0)[:kept], directions.flip(1)[:, :kept]
    spread = (variances + SHRINKAGE).sqrt()  # standard deviations
    return Projection(mean.float(), (directions.T / spread[:, None] / std).float()), spread.float()


def train_autoencoder(f: FeatureMaps, config: DetectorConfig, *, seed: int, progress: bool) -> FeatureAutoencoder:
    """An autoencoder of projected features by Adam and a cosine schedule."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = FeatureAutoencoder(f.shape[1], widths=config.widths, latent=config.latent)
    generator = generator_for(seed, 5)
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    with tqdm(range(config.steps), desc="autoencoder", unit="step", disable=not progress) as bar:
        for step in bar:
            batch = f[torch.randint(len(f), (config.batch_size,), generator=generator)]
            loss = F.mse_loss(autoencoder(batch), batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            optimiser.step()
            schedule.step()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}")
    return autoencoder.eval()


@torch.no_grad()
def fit_whitening(f: FeatureMaps, autoencoder: nn.Module, generator: Generator) -> Projection:
    """What makes residuals of normal images white: mean 0, covariance the identity."""
    residuals = torch.cat([part - autoencoder(part) for part in torch.split(f, CHUNK)])
    sample = sampled(residuals, SAMPLED_POSITIONS, generator).double()
    mean = sample.mean(0)
    covariance = (sample - mean).T @ (sample - mean) / len(sample)
    covariance += SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    variances, directions = torch.linalg.eigh(covariance)
    return Projection(mean.float(), (directions / variances.sqrt()).T.float())


@torch.no_grad()
def fit_positions(f: FeatureMaps) -> Positions:
    """A Gaussian at every position, over the leading directions; with few images nearer to that of all positions.

    Covariances are those of a position and the eight around it, as thing and camera move a little. Where the mean is
    drawn towards that of all positions, the way it was drawn counts as spread.
    """
    x = f[:, :POSITION_DIRECTIONS].double()
    images, kept, rows, columns = x.shape
    share = images / (images + POSITION_PRIOR)  # of what the position itself has shown
    mean = x.mean(0)
    at = (x - mean).permute(2, 3, 1, 0)  # (h, w, D, N)
    covariance = (at @ at.mT / images).reshape(rows, columns, kept * kept).permute(2, 0, 1)
    around = F.avg_pool2d(F.pad(covariance[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
    mixed = share * around + (1 - share) * around.mean(dim=(1, 2), keepdim=True)
    drawn = (1 - share) * (mean.mean(dim=(1, 2), keepdim=True) - mean)
    moved = drawn.permute(1, 2, 0).reshape(rows * columns, kept, 1)
    spread = mixed.permute(1, 2, 0).reshape(rows * columns, kept, kept) + moved @ moved.mT
    variances, directions = torch.linalg.eigh(spread + SHRINKAGE * torch.eye(kept))
    return Positions((mean + drawn).float(), (directions / variances[:, None].sqrt()).mT.float().contiguous())


def coreset(f: FeatureMaps, entries: int, generator: Generator) -> Float[Tensor, "entry feature"]:
    """Features that lie close to all others: again and again the one farthest from those chosen (k-centre, greedy)."""
    candidates = sampled(f, SAMPLED_POSITIONS, generator)
    if len(candidates) <= entries:
        return candidates
    shadow = candidates @ torch.randn(candidates.shape[1], 24, generator=generator)  # distances nearly stay, cheaper
    chosen = [0]
    nearest = torch.full((len(shadow),), torch.inf)
    for _ in range(entries - 1):
        nearest = torch.minimum(nearest, (shadow - shadow[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    return candidates[chosen]


def sampled(maps: FeatureMaps, count: int, generator: Generator) -> Float[Tensor, "position feature"]:
    """At most `count` positions of all maps, drawn without repetition."""
    flat = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    return flat[torch.randperm(len(flat), generator=generator)[:count]]


@torch.no_grad()
def weigh(detector: Detector, selection: Images, generator: Generator) -> None:
    """Standardise the detector's scores on held-out normal images and weigh them by what they find.

    A score's weight is how far its AUROC on synthetic anomalies lies above chance; all weights together are 1.
    """
    again = -(-FEWEST_SYNTHETIC // len(selection))
    spoiled, _ = synthesise(to_pixels(selection).repeat(again, 1, 1, 1), generator)
    maps = _maps(detector, to_pixels(selection))
    usual = usual_heights(maps)
    detector.usual.copy_(usual)
    maps = maps / usual
    normal, anomalous = pooled(maps), pooled(_maps(detector, spoiled))
    detector.centre.copy_(normal.mean(0))
    detector.scale.copy_(torch.maximum(normal.std(0), LEAST_SPREAD * normal.mean(0)).clamp_min(1e-6))
    detector.height.copy_(maps.flatten(2).amax(2).mean(0).clamp_min(1e-6))
    found = torch.tensor(
        [[max(0.0, 2 * auroc(normal[:, e, p], anomalous[:, e, p]) - 1) for p in range(normal.shape[2])]
         for e in range(normal.shape[1])]
    )  # fmt: skip
    if found.sum() > 0:
        detector.weights.copy_(found / found.sum())


def usual_heights(
    maps: Float[Tensor, "_ evidence rows columns"],
) -> Float[Tensor, "evidence rows columns"]:
    """How high normal images come at each position: root mean squares, smoothed, and shrunk where images are few."""
    square = maps.square().mean(0)
    margin = USUAL_SIDE // 2
    smooth = F.avg_pool2d(F.pad(square[None], (margin,) * 4, mode="replicate"), USUAL_SIDE, stride=1)[0]
    overall = square.mean(dim=(1, 2), keepdim=True)
    return ((len(maps) * smooth + USUAL_PRIOR * overall) / (len(maps) + USUAL_PRIOR)).sqrt().clamp_min(1e-6)


def _maps(detector: Detector, x: Tensor) -> Float[Tensor, "_ evidence rows columns"]:
    return torch.cat([detector.maps(detector.projection(detector.features(part))) for part in torch.split(x, CHUNK)])
