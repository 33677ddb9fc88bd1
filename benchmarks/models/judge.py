"""Quality of generated images, measured with the features of a small classifier."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import DataError
from training.images.dataset import Dataset
from training.images.pixels import to_pixels
from training.trainer import descend_on

EPOCHS = 2
BATCH = 128
SURE = 0.95  # probability from which on the classifier counts as sure
CHUNK = 500

Images = Float[Tensor, "_ channel height width"]


class Classifier(nn.Module):
    """Two convolutions and a dense layer, whose 64 numbers are the features.

    x (N,1,28,28) ->[ conv, stride 2 ]-> (N,24,14,14) ->[ conv, stride 2 ]-> (N,48,7,7) ->[ linear ]-> (N,64) -> logits
    """

    def __init__(self, x: Images, classes: int) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(x.shape[1], 24, 5, stride=2, padding=2), nn.ReLU()]
        body += [nn.Conv2d(24, 48, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten()]
        self.body = nn.Sequential(*body)
        flat = self.body(x[:1]).shape[1]
        self.features = nn.Sequential(self.body, nn.Linear(flat, 64), nn.ReLU())
        self.classes = nn.Linear(64, classes)

    def forward(self, x: Images) -> Float[Tensor, "_ class"]:
        logits: Tensor = self.classes(self.features(x))
        return logits


@dataclass(frozen=True)
class Judged:
    """Metrics of a set of images.

    Attributes:
        distance: Frechet distance of their features from those of the test images.
        sure: Share of images that the classifier is confident about.
        diversity: Entropy of the predicted classes, relative to a uniform distribution: 1 is equal shares.
        nearest: Mean distance to the nearest training image, relative to that of test images: far below 1 is memorised.
    """

    distance: float
    sure: float
    diversity: float
    nearest: float


class Judge:
    """The trained classifier, with its features of the test images.

    Raises:
        DataError: The data set has no labels.
    """

    def __init__(self, data: Dataset, *, seed: int = 0) -> None:
        if data.train_labels is None or data.test_labels is None:
            raise DataError(f"{data.name} has no labels: the classifier that judges drawn images is trained with them")
        torch.manual_seed(seed)
        self.test = to_pixels(data.test)
        self.train = to_pixels(data.train)
        self.network = Classifier(self.test, int(data.train_labels.max()) + 1)
        self._learn(data.train_labels.long(), seed)
        self.accuracy = float((self._logits(self.test).argmax(1) == data.test_labels).float().mean())
        self._seen = self._features(self.test)
        self._nearest_test = self._nearest(self.test[:1000])

    def judge(self, x: Images) -> Judged:
        """Measure a set of images."""
        probabilities = self._logits(x).softmax(1)
        shares = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(x)
        entropy = float(-torch.special.xlogy(shares, shares).sum() / torch.tensor(float(len(shares))).log())
        return Judged(
            distance=frechet_distance(self._features(x), self._seen),
            sure=float((probabilities.max(1).values >= SURE).float().mean()),
            diversity=entropy,
            nearest=self._nearest(x[:1000]) / self._nearest_test,
        )

    def _learn(self, labels: Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(self.network.parameters(), 2e-3)
        batches = [b for _ in range(EPOCHS) for b in torch.randperm(len(labels), generator=generator).split(BATCH)]  # type: ignore[no-untyped-call]  # torch annotates it only in part
        falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / len(batches))
        left = iter(batches)

        def loss() -> Tensor:
            batch = next(left)
            return F.cross_entropy(self.network(self.train[batch]), labels[batch])

        descend_on(loss, falling, steps=len(batches), name="classifier", progress=True)
        self.network.eval()

    @torch.no_grad()
    def _logits(self, x: Images) -> Tensor:
        return torch.cat([self.network(chunk) for chunk in torch.split(x, CHUNK)])

    @torch.no_grad()
    def _features(self, x: Images) -> Tensor:
        return torch.cat([self.network.features(chunk) for chunk in torch.split(x, CHUNK)])

    def _nearest(self, x: Images) -> float:
        gallery = self.train.flatten(1)
        return float(torch.cat([torch.cdist(c, gallery).min(1).values for c in torch.split(x.flatten(1), 250)]).mean())


def frechet_distance(a: Float[Tensor, "_ feature"], b: Float[Tensor, "_ feature"]) -> float:
    """Return |m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the distance of Gaussians fitted to two sets.

    Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, https://arxiv.org/abs/1706.08500
    """
    (mean_a, cov_a), (mean_b, cov_b) = ((x.double().mean(0), torch.cov(x.double().T)) for x in (a, b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def table(judged_by_name: Mapping[str, Judged]) -> str:
    """Return the results as a table."""
    rows = [
        "| images | Frechet distance | sure | diversity | nearest training image |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, j in judged_by_name.items():
        rows.append(f"| {name} | {j.distance:.2f} | {j.sure:.1%} | {j.diversity:.3f} | {j.nearest:.2f} |")
    return "\n".join(rows)
