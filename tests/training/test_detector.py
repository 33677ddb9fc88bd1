"""A detector learnt from tiny images finds what is unlike them, and its graph says the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from benchmarks.models.peers.anomaly import AnomalibPadim
from training.anomaly.backbone import Lite0
from training.anomaly.detector import Detector, Neighbours, Positions, WithinImage, pooled
from training.anomaly.features import Gradients
from training.anomaly.learn import DetectorConfig, build_features, fit_positions, learn_detector, usual_heights
from training.anomaly.measure import auroc, pixel_auroc
from training.anomaly.synthetic import KINDS, synthesise
from training.errors import DataError
from training.export import export_graphs, run_graph

SMALL = DetectorConfig(features="gradients", dimensions=8, bank=200, widths=(16, 16), latent=4, steps=60)


def stripes(count: int, seed: int) -> Tensor:
    """Grey images of soft stripes with shifted phase and a little noise, bytes, (count, 1, 32, 32)."""
    generator = Generator().manual_seed(seed)
    phase = 6.3 * torch.rand(count, 1, 1, 1, generator=generator)
    x = 0.5 + 0.3 * torch.sin(torch.arange(32) / 2 + phase).expand(count, 1, 32, 32)
    return ((x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return learn_detector(stripes(60, 0), stripes(12, 1), SMALL, seed=0, progress=False)


def with_squares(images: Tensor) -> tuple[Tensor, Tensor]:
    spoiled, mask = images.clone(), torch.zeros(images.shape, dtype=torch.bool)
    mask[:, :, 12:20, 12:20] = True
    spoiled[mask] = 128
    return spoiled, mask[:, 0]


def test_a_detector_ranks_damaged_images_above_normal_ones_and_shows_where(detector: Detector) -> None:
    normal = stripes(20, 2)
    damaged, mask = with_squares(normal)

    score, _ = detector(normal / 255)
    score_damaged, anomaly_map = detector(damaged / 255)

    assert auroc(score, score_damaged) == 1.0
    assert pixel_auroc(list(anomaly_map.numpy()), list(mask.numpy())) > 0.95


def test_the_same_images_and_seed_give_the_same_detector(detector: Detector) -> None:
    again = learn_detector(stripes(60, 0), stripes(12, 1), SMALL, seed=0, progress=False)

    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())


def test_the_weights_of_the_scores_add_up_to_one(detector: Detector) -> None:
    assert float(detector.weights.sum()) == pytest.approx(1.0)
    assert bool((detector.weights >= 0).all())


def test_the_exported_graph_gives_the_score_and_map_of_the_detector(detector: Detector, tmp_path: Path) -> None:
    x = (stripes(16, 3) / 255).float()

    export_graphs({"anomaly": detector}, {"anomaly": x}, tmp_path)

    score, anomaly_map = run_graph(tmp_path / "anomaly.onnx", x.numpy())
    expected_score, expected_map = detector(x)
    np.testing.assert_allclose(score, expected_score.numpy(), rtol=1e-3, atol=1e-4)  # float32 in another order
    np.testing.assert_allclose(anomaly_map, expected_map.numpy(), rtol=1e-3, atol=1e-4)
    assert anomaly_map.shape == (16, 32, 32)


def test_a_position_is_judged_by_what_normal_images_have_there() -> None:
    generator = Generator().manual_seed(0)
    f = torch.randn(20_000, 2, 1, 6, generator=generator)
    f[:, 0, :, 3:] = 10.0 + 5.0 * f[:, 0, :, 3:]  # the right half is another thing, and varies more
    x = torch.zeros(1, 2, 1, 6)
    x[0, 0, 0] = torch.tensor([0.0, 5.0, 0.0, 10.0, 15.0, 0.0])

    found = fit_positions(f)(x)[0, 0]

    assert found[[0, 3]].max() < 0.2
    assert float(found[1]) == pytest.approx(5 / 2**0.5, rel=0.1)  # root mean square over two directions
    assert float(found[4]) == pytest.approx(1 / 2**0.5, rel=0.1)
    assert float(found[5]) == pytest.approx(2 / 2**0.5, rel=0.1)


def test_from_fifty_images_on_positions_are_evidence_too(detector: Detector) -> None:
    few = learn_detector(stripes(20, 0), stripes(12, 1), SMALL, seed=0, progress=False)

    assert set(detector.evidence) - set(few.evidence) == {"positions"}


def test_a_few_images_make_positions_more_alike() -> None:
    generator = Generator().manual_seed(0)
    f = torch.randn(3, 2, 6, 6, generator=generator)
    f[:, 0, :3] *= 0.01  # three images, which hardly differ in the upper half

    whiten = fit_positions(f).whiten

    assert whiten.shape == (36, 2, 2)
    assert torch.isfinite(whiten).all()
    assert whiten[0].abs().max() < 3  # not 100


def test_positions_measure_mahalanobis_lengths() -> None:
    positions = Positions(torch.ones(1, 2, 1), torch.tensor([[[2.0]], [[0.5]]]))

    assert positions(torch.full((1, 3, 2, 1), 4.0)).flatten().tolist() == [6.0, 1.5]


def test_neighbours_measure_the_distance_to_the_nearest_entry_of_the_bank() -> None:
    neighbours = Neighbours(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))

    distances = neighbours(torch.tensor([[3.0, 9.0], [4.0, 0.0]]).reshape(1, 2, 1, 2))

    torch.testing.assert_close(distances, torch.tensor([[[5.0, 1.0]]]))


def test_features_within_their_image_do_not_change_with_its_light() -> None:
    f = torch.randn(2, 3, 6, 6, generator=Generator().manual_seed(0))

    within = WithinImage(least=0.0)

    assert torch.allclose(within(f), within(3.0 * f + 1.0), atol=1e-5)  # float32 rounding of values near 1


def test_what_is_usual_at_a_position_follows_the_images_more_closely_the_more_there_are() -> None:
    maps = torch.ones(1, 1, 12, 12)
    maps[:, :, :, :6] = 3.0  # normal images are higher on the left

    few, many = usual_heights(maps.expand(2, -1, -1, -1)), usual_heights(maps.expand(1000, -1, -1, -1))

    assert float(many[0, 6, 0]) == pytest.approx(3.0, rel=0.01)  # 1000 images against the prior's 10
    assert float(many[0, 6, 11]) == pytest.approx(1.0, rel=0.02)
    assert float(many[0, 6, 11]) < float(few[0, 6, 11]) < float(few[0, 6, 0]) < 3.0


def test_maps_are_pooled_by_mean_top_one_percent_and_maximum() -> None:
    maps = torch.zeros(1, 1, 20, 10)
    maps[0, 0, 0, :2] = torch.tensor([4.0, 2.0])

    torch.testing.assert_close(pooled(maps), torch.tensor([[[6 / 200, 3.0, 4.0]]]))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_synthetic_anomalies_differ_only_inside_their_mask(kind: str) -> None:
    x = (stripes(2, 4) / 255).float()

    spoiled, mask = KINDS[kind](x[0], x[1], Generator().manual_seed(0))

    assert 0 < int(mask.sum()) < mask.numel() / 2
    assert torch.equal(spoiled[:, ~mask], x[0][:, ~mask])
    assert not torch.equal(spoiled, x[0])


def test_synthetic_anomalies_are_the_same_for_the_same_seed() -> None:
    x = (stripes(6, 5) / 255).float()

    first, second = (synthesise(x, Generator().manual_seed(7)) for _ in range(2))

    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_lite0_sees_grey_and_colour_and_gives_features_of_every_eighth_pixel() -> None:
    grey = torch.rand(2, 1, 64, 96, generator=Generator().manual_seed(0))
    features = Lite0()

    found = features(grey)

    assert found.shape == (2, features.channels, 64 // features.stride, 96 // features.stride)
    torch.testing.assert_close(found, features(grey.expand(-1, 3, -1, -1)))
    assert not any(p.requires_grad for p in features.parameters())


def test_pictures_get_lite0_and_small_grey_images_gradients() -> None:
    small, large = torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.zeros(1, 1, 64, 96, dtype=torch.uint8)

    assert isinstance(build_features(DetectorConfig(), small), Gradients)
    assert isinstance(build_features(DetectorConfig(), large), Lite0)
    assert isinstance(build_features(DetectorConfig(), small.expand(1, 3, 64, 64)), Lite0)


def test_a_detector_of_pictures_is_one_graph_with_its_backbone_inside(tmp_path: Path) -> None:
    generator = Generator().manual_seed(0)
    images = (torch.rand(12, 3, 64, 64, generator=generator) * 255).to(torch.uint8)
    config = DetectorConfig(features="lite0", dimensions=16, bank=20, widths=(8, 8), latent=4, steps=3, batch_size=4)

    learnt = learn_detector(images[:8], images[8:], config, seed=0, progress=False)
    export_graphs({"anomaly": learnt}, {"anomaly": (images / 255).repeat(2, 1, 1, 1)}, tmp_path)

    score, anomaly_map = run_graph(tmp_path / "anomaly.onnx", (images / 255).numpy())
    assert anomaly_map.shape == (12, 64, 64)
    np.testing.assert_allclose(score, learnt((images / 255).float())[0].numpy(), rtol=1e-3, atol=1e-3)


def test_an_anomalib_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anomalib").mkdir()
    (tmp_path / "anomalib/__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert AnomalibPadim.is_installed()
    with pytest.raises(DataError, match="cannot be imported: operator torchvision::nms does not exist"):
        AnomalibPadim(Lite0(), seed=0)
