"""The detector of aligned images knows what is unlike them, and is not fooled by images that are merely simple."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from training.anomaly.aligned import AlignedDetector, learn_aligned_detector
from training.anomaly.distort import KINDS, distort
from training.anomaly.features import GradientCells
from training.export import export_graphs
from training.exported import run_graph
from training.measure.anomaly import auroc


def crosses(count: int, seed: int, *, height: int = 28, width: int = 28) -> Tensor:
    """Bright crosses near the middle, bytes, (count, 1, height, width)."""
    generator = Generator().manual_seed(seed)
    x = torch.zeros(count, 1, height, width, dtype=torch.uint8)
    for image, (dy, dx) in zip(x, torch.randint(-2, 3, (count, 2), generator=generator).tolist(), strict=True):
        image[0, height // 2 + dy - 1 : height // 2 + dy + 2, 5:-5] = 220
        image[0, 5:-5, width // 2 + dx - 1 : width // 2 + dx + 2] = 220
    return x


@pytest.fixture(scope="module")
def detector() -> AlignedDetector:
    return learn_aligned_detector(crosses(200, 0), seed=0, progress=False)


@pytest.mark.parametrize("what", ["black", "grey", "noise", "turned", "half"])
def test_unlike_images_score_above_all_normal_ones_the_simplest_too(detector: AlignedDetector, what: str) -> None:
    normal = crosses(30, 1) / 255
    half = normal.clone()
    half[..., :14] = 0
    unlike = {
        "black": torch.zeros_like(normal),
        "grey": torch.full_like(normal, 0.5),
        "noise": torch.rand(normal.shape, generator=Generator().manual_seed(2)),
        "turned": torch.rot90(torch.tril(normal), 1, (2, 3)),
        "half": half,
    }[what]

    assert auroc(detector(normal)[0], detector(unlike)[0]) == 1.0


def test_the_map_is_high_where_something_was_added(detector: AlignedDetector) -> None:
    x = crosses(1, 1) / 255
    x[0, 0, 3:8, 20:25] = 1.0

    _, (anomaly_map,) = detector(x)

    row, column = divmod(int(anomaly_map.argmax()), 28)
    assert row < 12
    assert column > 16


def test_the_same_images_and_seed_give_the_same_detector(detector: AlignedDetector) -> None:
    again = learn_aligned_detector(crosses(200, 0), seed=0, progress=False)

    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 30, 17), (1, 130, 70)])
def test_the_exported_graph_says_the_same_for_images_of_any_size(size: tuple[int, int, int], tmp_path: Path) -> None:
    detector = AlignedDetector(*size[1:]).eval().requires_grad_(False)
    x = torch.rand(16, *size, generator=Generator().manual_seed(0))

    export_graphs({"anomaly": detector}, {"anomaly": x}, tmp_path)

    score, anomaly_map = run_graph(tmp_path / "anomaly.onnx", x.numpy())
    np.testing.assert_allclose(score, detector(x)[0].numpy(), rtol=1e-3, atol=1e-4)  # float32 in another order
    np.testing.assert_allclose(anomaly_map, detector(x)[1].numpy(), rtol=1e-3, atol=1e-4)
    assert anomaly_map.shape == (16, *size[1:])


def test_an_image_without_edges_has_the_same_features_however_bright() -> None:
    features = GradientCells(4)

    torch.testing.assert_close(features(torch.zeros(1, 1, 28, 28)), features(torch.full((1, 1, 28, 28), 0.7)))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_distortion_changes_the_image(kind: str) -> None:
    x, other = (crosses(2, seed) / 255 for seed in (3, 4))

    distorted = KINDS[kind](x, other, Generator().manual_seed(0))

    assert distorted.shape == x.shape
    assert not torch.equal(distorted, x)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_distortions_are_the_same_for_the_same_seed_and_stay_in_range(count: int) -> None:
    x = crosses(count, 5) / 255

    first, second = (distort(x, Generator().manual_seed(7)) for _ in range(2))

    assert torch.equal(first, second)
    assert first.shape == x.shape
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
