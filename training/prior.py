"""The prior of latents, fitted to the training images: from standard normal numbers to latents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import PriorConfig
from training.files import write_atomically

ITERATIONS = 40  # of EM, and half as many of k-means before it; the likelihood moves little after 30
IMAGES_PER_NUMBER = 4  # a component has about D numbers per direction: fewer images than this times D do not fix them
MOST_COMPONENTS, HELD_OUT = 64, 5  # of a mixture, chosen by the likelihood of every fifth latent
RIDGE = 1e-4  # of the mean variance, so that no component collapses

Latents = Float[Tensor, "image latent"]


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians: weights (M,), means (M, D), covariances (M, D, D)."""

    weights: Float[Tensor, " component"]
    means: Float[Tensor, "component latent"]
    covariances: Float[Tensor, "component latent latent"]


class Prior(nn.Module):
    """A mixture of Gaussians for every label, sampled with standard normal numbers.

        e (N, D) -> z = mean[label] + factor[label] e               one component
        e (N, D + 1): the last number, as its share of the normal distribution below it, picks the component

    The parameters are fitted to the latents of a trained autoencoder: Ghosh et al., From Variational to Deterministic
    Autoencoders, 2020, https://arxiv.org/abs/1903.12436.
    """

    def __init__(self, mixtures: tuple[Mixture, ...], labels: tuple[str, ...], shares: tuple[float, ...]) -> None:
        super().__init__()
        most = max(len(m.weights) for m in mixtures)
        dim = mixtures[0].means.shape[1]
        self.labels, self.shares = labels, shares
        self.components = most
        self.noise_dim = dim + (1 if most > 1 else 0)
        limits, means, factors = torch.ones(len(mixtures), most), [], []
        for i, m in enumerate(mixtures):
            spare = most - len(m.weights)  # never picked: nothing lies above the limit 1
            limits[i, : len(m.weights) - 1] = m.weights.cumsum(0)[:-1].float()
            means.append(F.pad(m.means, (0, 0, 0, spare)))
            factors.append(F.pad(torch.linalg.cholesky(m.covariances), (0, 0, 0, 0, 0, spare)))
        self.register_buffer("limits", limits[:, :-1].contiguous())  # (labels, M - 1): where the next one begins
        self.register_buffer("means", torch.cat(means).float())  # (labels * M, D)
        self.register_buffer("factors", torch.cat(factors).float())  # (labels * M, D, D)

    def forward(
        self, e: Float[Tensor, "batch noise"], label: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        dim = self.get_buffer("means").shape[1]
        labels = max(1, len(self.labels))
        at = torch.zeros_like(e[:, 0]) if label is None else label.round().clamp(0, labels - 1)
        row = at.long()  # (N,)
        if self.components > 1:
            uniform = 0.5 * (1.0 + torch.erf(e[:, dim:] * 0.5**0.5))  # (N, 1)
            picked = (uniform > self.get_buffer("limits")[row]).long().sum(1)
            row = row * self.components + picked
        offset = (self.get_buffer("factors")[row] @ e[:, :dim, None]).squeeze(2)
        return self.get_buffer("means")[row] + offset


@dataclass(frozen=True)
class FittedPrior:
    """Parameters of a `Prior`: one mixture, or one for each label with the label's share of the images."""

    mixtures: tuple[Mixture, ...]
    labels: tuple[str, ...]
    shares: tuple[float, ...]

    def network(self) -> Prior:
        """Return the network to export."""
        return Prior(self.mixtures, self.labels, self.shares)

    def save(self, path: Path) -> None:
        """Write the prior to `path`, for the export."""
        mixtures = [(m.weights, m.means, m.covariances) for m in self.mixtures]
        with write_atomically(path) as file:
            torch.save({"mixtures": mixtures, "labels": list(self.labels), "shares": list(self.shares)}, file)

    @classmethod
    def load(cls, path: Path) -> "FittedPrior":
        """Read a prior written by `save`."""
        kept = torch.load(path, weights_only=True)
        return cls(tuple(Mixture(*m) for m in kept["mixtures"]), tuple(kept["labels"]), tuple(kept["shares"]))


def fit_prior(z: Latents, labels: UInt8[Tensor, " image"] | None, config: PriorConfig, *, seed: int) -> FittedPrior:
    """Fit the prior to latents: a mixture per label if there are labels and the recipe has `is_by_label`."""
    groups = [z]
    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    if labels is not None and config.is_by_label:
        values, counts = torch.unique(labels, return_counts=True)
        groups = [z[labels == value] for value in values]
        names, shares = tuple(str(int(v)) for v in values), tuple((counts.double() / counts.sum()).tolist())
    components = choose_components(groups, seed=seed) if config.components == "auto" else config.components
    generator = torch.Generator().manual_seed(seed)
    return FittedPrior(tuple(fit_mixture(group, components, generator) for group in groups), names, shares)


def choose_components(groups: Sequence[Latents], *, seed: int) -> int:
    """Choose the number of components by the likelihood of held-out latents, doubling it while that improves.

    Args:
        groups: Latents of one label each; a fifth of each is held out.
        seed: Seed of the split and of the initial mixtures.
    """
    components, best = 1, -math.inf
    while components <= MOST_COMPONENTS:
        generator = torch.Generator().manual_seed(seed)
        total, largest = 0.0, 1
        for z in groups:
            order = torch.randperm(len(z), generator=generator)
            held_out, rest = z[order[: len(z) // HELD_OUT]], z[order[len(z) // HELD_OUT :]]
            mixture = fit_mixture(rest, components, generator)
            largest = max(largest, len(mixture.weights))
            total += float(log_density(held_out.double(), mixture).logsumexp(1).sum())
        if total <= best or largest < components:  # no gain, or too few images
            return max(1, components // 2)
        components, best = 2 * components, total
    return MOST_COMPONENTS


def fit_mixture(z: Latents, components: int, generator: torch.Generator) -> Mixture:
    """Fit a mixture by expectation maximisation, initialised by k-means.

    With few images, it has fewer components.

    Dempster, Laird and Rubin, 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01600.x

    Args:
        z: Latents.
        components: Maximum number of components.
        generator: Draws the initial centres of k-means.
    """
    x = z.double()
    n, dim = x.shape
    components = max(1, min(components, n // (IMAGES_PER_NUMBER * dim)))
    ridge = RIDGE * (float(x.var(0, correction=0).mean()) + 1e-12) * torch.eye(dim, dtype=torch.float64)
    share = F.one_hot(_k_means(x, components, generator), components).double()  # (N, M), of each image in each
    for _ in range(ITERATIONS):
        mixture = _maximise(x, share, ridge)
        if components == 1:
            break
        share = log_density(x, mixture).softmax(1)
    return mixture


def log_density(x: Float[Tensor, "image latent"], mixture: Mixture) -> Float[Tensor, "image component"]:
    """Return log(weight * density) of every image under every component, up to a constant."""
    factors = torch.linalg.cholesky(mixture.covariances)
    columns = []
    for weight, mean, factor in zip(mixture.weights, mixture.means, factors, strict=True):
        e = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)  # (D, N)
        columns.append(weight.log() - factor.diagonal().log().sum() - 0.5 * e.square().sum(0))
    return torch.stack(columns, dim=1)


def _maximise(
    x: Float[Tensor, "image latent"], share: Float[Tensor, "image component"], ridge: Float[Tensor, "latent latent"]
) -> Mixture:
    counts = share.sum(0).clamp_min(1e-9)
    means = (share.T @ x) / counts[:, None]
    covariances = []
    for i, mean in enumerate(means):
        centred = x - mean
        covariances.append((share[:, i, None] * centred).T @ centred / counts[i] + ridge)
    return Mixture(counts / counts.sum(), means, torch.stack(covariances))


def _k_means(x: Float[Tensor, "image latent"], components: int, generator: torch.Generator) -> Int64[Tensor, " image"]:
    centres = x[torch.randperm(len(x), generator=generator)[:components]]
    nearest = torch.cdist(x, centres).argmin(1)
    for _ in range(ITERATIONS // 2):
        members = F.one_hot(nearest, components).double()
        counts = members.sum(0)[:, None]
        centres = torch.where(counts > 0, members.T @ x / counts.clamp_min(1.0), centres)
        nearest = torch.cdist(x, centres).argmin(1)
    return nearest
