"""Peers of the detector for parts. Each learns from the same images."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Generator, Tensor

from training.anomaly.backbone import Lite0
from training.anomaly.bank import coreset
from training.anomaly.detector import Neighbours
from training.errors import DataError
from training.images.pixels import to_pixels
from training.randomness import generator_for

Images = Real[Tensor, "_ channel height width"]


class BorderGrey:
    """Deviation of the mean of the border's pixels, which does not depend on the part."""

    name = "grey of the border"
    size = 2  # floats

    def fit(self, images: Images) -> None:
        """Compute mean and standard deviation over the images."""
        values = self.values(images)
        self.mean, self.std = values.mean(), values.std().clamp_min(1e-6)

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores, and empty maps."""
        scores = ((self.values(images) - self.mean) / self.std).abs()
        return scores.numpy(), np.zeros((len(images), 0, 0), np.float32)

    def values(self, images: Images) -> Tensor:
        """Return a number per image."""
        x = to_pixels(images).mean(dim=1)
        edges = [x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]]
        return torch.cat(edges, dim=1).mean(dim=1)


class Spread(BorderGrey):
    """Deviation of the standard deviation of an image's pixels."""

    name = "spread of the pixels"

    def values(self, images: Images) -> Tensor:
        """Return a number per image."""
        return to_pixels(images).flatten(1).std(dim=1)


class Patchcore:
    """Distance of the nearest neighbour in a bank of 3,000 features by greedy k-centre; the score is the maximum.

    Roth et al. 2022: selected from all patches by distances in a random projection, with features unchanged.
    """

    name = "kNN (PatchCore) on the same features"

    def __init__(self, entries: int = 3000) -> None:
        self.entries = entries

    def fit(self, found: Tensor, generator: Generator) -> None:
        """Select the coreset of the features."""
        rows = found.permute(0, 2, 3, 1).reshape(-1, found.shape[1])
        self.neighbours = Neighbours(coreset(rows, self.entries, generator))

    def __call__(self, found: Tensor) -> Tensor:
        """Map (N,h,w) of features (N,D,h,w)."""
        distance: Tensor = self.neighbours(found)
        return distance


class Padim:
    """A Gaussian at every position, Mahalanobis distance from it (Defard et al. 2021, arXiv 2011.08785)."""

    name = "PaDiM on the same features"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions

    def fit(self, found: Tensor, generator: Generator) -> None:
        """Compute mean and covariance at every position, over a random choice of features."""
        self.kept = torch.randperm(found.shape[1], generator=generator)[: self.dimensions]
        x = found[:, self.kept].permute(2, 3, 0, 1)  # (h, w, N, K)
        self.mean = x.mean(dim=2, keepdim=True)
        covariance = (x - self.mean).mT @ (x - self.mean) / max(1, x.shape[2] - 1)
        covariance += 0.01 * torch.eye(len(self.kept))
        self.precision = torch.linalg.inv(covariance)  # (h, w, K, K)

    def __call__(self, found: Tensor) -> Tensor:
        """Map (N,h,w) of features (N,D,h,w)."""
        x = found[:, self.kept].permute(2, 3, 0, 1) - self.mean
        square: Tensor = ((x @ self.precision) * x).sum(-1).clamp_min(0.0)
        return square.sqrt().permute(2, 0, 1)


LAYERS = ["blocks.2", "blocks.4"]  # strides 8 and 16: the taps of this network that both methods of anomalib get
PATCHCORE_ENTRIES = 3000  # as many as in our bank
PATCHCORE_SHARE = 0.1  # of all patches at most: anomalib's default


class AnomalibPadim:
    """PaDiM of anomalib, with its features, Gaussians, map and score, on our weights of Lite0.

    anomalib would download weights; these are the same network's, from the installed package.
    """

    name = "PaDiM of anomalib"

    def __init__(self, features: Lite0, *, seed: int) -> None:
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # it draws which features are kept
            self.model = self.build()
        extractor = self.model.feature_extractor
        # Compared with timm 1.0.31: both taps are equal to the last bit.
        values = list(features.state_dict().values())  # ordered as its own, which go on to blocks not tapped
        extractor.load_state_dict(dict(zip(extractor.state_dict(), values, strict=False)), strict=False)

    def build(self) -> Any:  # noqa: ANN401  anomalib is optional
        """Return the model without weights."""
        try:
            from anomalib.models.image.padim.torch_model import PadimModel  # noqa: PLC0415  slow to import, optional
        except (ImportError, RuntimeError) as error:  # RuntimeError: of a torchvision made for another torch
            raise DataError(f"anomalib is installed and cannot be imported: {error}") from error
        return PadimModel("tf_efficientnet_lite0", LAYERS, pre_trained=False, n_features=100)

    @staticmethod
    def is_installed() -> bool:
        """Return whether anomalib is installed; see docs/anomaly.md."""
        return find_spec("anomalib") is not None

    @torch.no_grad()
    def fit(self, images: Images) -> None:
        """Learn from the training images."""
        self.model.train()
        self.model.feature_extractor.eval()
        for part in torch.split(images, 8):
            self.model(_for_lite0(part))
        self.finish()
        self.model.eval()

    def finish(self) -> None:
        """Fit the Gaussians."""
        self.model.fit()

    @torch.no_grad()
    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return anomalib's scores and maps."""
        answers = [self.model(_for_lite0(part)) for part in torch.split(images, 8)]
        maps = torch.cat([answer.anomaly_map[:, 0] for answer in answers])
        return torch.cat([answer.pred_score.flatten() for answer in answers]).numpy(), maps.numpy()


class AnomalibPatchcore(AnomalibPadim):
    """PatchCore of anomalib, with its features, reweighted score and map, on our weights of Lite0."""

    name = "PatchCore of anomalib"

    def build(self) -> Any:  # noqa: ANN401  anomalib is optional
        """Return the model without weights."""
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # noqa: PLC0415  slow, optional

        return PatchcoreModel(LAYERS, backbone="tf_efficientnet_lite0", pre_trained=False)

    def finish(self) -> None:
        """Select the coreset by our greedy k-centre: anomalib's own takes ten minutes for 170,000 patches."""
        patches = torch.cat(self.model.embedding_store)
        self.model.embedding_store.clear()
        entries = min(PATCHCORE_ENTRIES, round(PATCHCORE_SHARE * len(patches)))
        self.model.memory_bank = coreset(patches, entries, generator_for(self.seed, 9))


def _for_lite0(images: Images) -> Tensor:
    return (to_pixels(images).expand(-1, 3, -1, -1) * 255.0 - 127.0) / 128.0
