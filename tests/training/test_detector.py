"""A detector learnt from small images finds what is unlike them, and its graph says the same."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from tests.training import parts
from training.anomaly.backbone import Lite0
from training.anomaly.bank import coreset
from training.anomaly.detector import Evidence, Neighbours, Positions, joined, pooled
from training.anomaly.features import Gradients
from training.anomaly.ignore import spread
from training.anomaly.learn import (
    DetectorConfig,
    Learnt,
    build_features,
    fit_positions,
    fit_texture,
    fit_usual,
    folds_of,
    learn_detector,
)
from training.errors import ExportError
from training.export import export_graphs
from training.exported import ANOMALY_PARITY_TOLERANCE, measure_parity, run_graph
from training.measure.anomaly import auroc, pixel_auroc

SMALL = DetectorConfig(features="gradients", dimensions=8, bank=200)
PARTS = DetectorConfig(features="lite0", dimensions=128, bank=400)


def stripes(count: int, seed: int) -> Tensor:
    """Grey images of soft stripes with shifted phase and a little noise, bytes, (count, 1, 32, 32)."""
    generator = Generator().manual_seed(seed)
    phase = 6.3 * torch.rand(count, 1, 1, 1, generator=generator)
    x = 0.5 + 0.3 * torch.sin(torch.arange(32) / 2 + phase).expand(count, 1, 32, 32)
    return ((x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    return learn(stripes(60, 0))


@pytest.fixture(scope="module")
def graph(learnt: Learnt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported graph of `learnt`."""
    folder = tmp_path_factory.mktemp("graph")
    export_graphs({"anomaly": learnt.detector}, {"anomaly": (stripes(16, 3) / 255).float()}, folder)
    return folder / "anomaly.onnx"


def learn(images: Tensor, config: DetectorConfig = SMALL) -> Learnt:
    return learn_detector(images, [str(i) for i in range(len(images))], config, seed=0, progress=False)


def with_squares(images: Tensor) -> tuple[Tensor, Tensor]:
    spoiled, mask = images.clone(), torch.zeros(images.shape, dtype=torch.bool)
    mask[:, :, 12:20, 12:20] = True
    spoiled[mask] = 128
    return spoiled, mask[:, 0]


def test_a_detector_ranks_damaged_images_above_normal_ones_and_shows_where(learnt: Learnt) -> None:
    normal = stripes(20, 2)
    damaged, mask = with_squares(normal)

    score, *_ = learnt.detector(normal / 255)
    score_damaged, anomaly_map, _ = learnt.detector(damaged / 255)

    assert auroc(score, score_damaged) == 1.0
    assert pixel_auroc(list(anomaly_map.numpy()), list(mask.numpy())) > 0.9  # inside, a flat square has no gradients


Draw = Callable[..., parts.Pictures]


@pytest.fixture(scope="module", params=["turned_bolts", "plates", "papers"])
def of_parts(request: pytest.FixtureRequest) -> tuple[str, Draw, Learnt]:
    draw: Draw = getattr(parts, request.param)
    return request.param, draw, learn(torch.from_numpy(draw(30, 0)), PARTS)


def test_parts_in_any_pose_or_in_place_and_surfaces_are_judged_with_the_same_settings(
    of_parts: tuple[str, Draw, Learnt],
) -> None:
    _, draw, learnt = of_parts

    good, *_ = learnt.detector(torch.from_numpy(draw(20, 1)) / 255)
    defective, *_ = learnt.detector(torch.from_numpy(draw(20, 2, defect=True)) / 255)

    assert auroc(good, defective) > 0.8  # bolts have 0.89; of 20 and 20 images 0.05 is chance


def test_new_images_score_no_higher_than_those_it_was_calibrated_on(of_parts: tuple[str, Draw, Learnt]) -> None:
    _, draw, learnt = of_parts

    new, *_ = learnt.detector(torch.from_numpy(draw(30, 1)) / 255)

    # 0.5 if they are alike, with a standard deviation of 0.08. What nine tenths taught scores a little higher.
    assert 0.1 < auroc(learnt.scores, new) < 0.75


def test_the_same_images_and_seed_give_the_same_detector(learnt: Learnt) -> None:
    again = learn(stripes(60, 0))

    state = again.detector.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in learnt.detector.state_dict().items())
    np.testing.assert_array_equal(again.scores, learnt.scores)


def test_an_image_is_scored_by_a_detector_that_neither_it_nor_its_group_taught() -> None:
    images = stripes(12, 0)
    images[3], _ = (x[0] for x in with_squares(images[3:4]))
    twins = torch.cat([images, images[3:4]])

    alone = learn_detector(twins, [str(i) for i in range(13)], SMALL, seed=0, progress=False).scores
    together = learn_detector(twins, [*(str(i) for i in range(12)), "3"], SMALL, seed=0, progress=False).scores

    assert together[3] == pytest.approx(together[12])
    assert together[3] > 1.5 * together[:3].max()
    assert alone[3] < together[3]


def test_what_happens_outside_of_where_it_looks_changes_nothing() -> None:
    images, look = stripes(20, 0), torch.zeros(32, 32, dtype=torch.bool)
    look[:, 16:] = True
    groups = [str(i) for i in range(20)]
    learnt = learn_detector(images, groups, SMALL, seed=0, look=look, progress=False)
    x = stripes(2, 5) / 255
    left, right = x.clone(), x.clone()
    left[:, :, 12:20, 2:10] = 0.5
    right[:, :, 12:20, 20:28] = 0.5

    answer = learnt.detector(x)

    torch.testing.assert_close(learnt.detector(left), answer)
    assert (learnt.detector(right)[0] > answer[0] + 1).all()
    assert answer[1][:, :, :8].max() < 1  # nothing is marked there


def test_folds_keep_groups_whole_and_are_about_as_large_as_each_other() -> None:
    groups = [f"part {i // 3}" for i in range(60)]

    folds = folds_of(groups)

    assert torch.bincount(folds).tolist() == [6] * 10
    assert folds.tolist() == sorted(folds.tolist())  # what was taken one after the other is left out together
    assert all(len(set(folds[i : i + 3].tolist())) == 1 for i in range(0, 60, 3))
    assert len(set(folds_of(["a", "b", "b"]).tolist())) == 2


def test_the_exported_graph_gives_the_score_and_map_of_the_detector(learnt: Learnt, graph: Path) -> None:
    x = (stripes(16, 3) / 255).float()

    score, anomaly_map, distance = run_graph(graph, x.numpy())

    expected_score, expected_map, expected_distance = learnt.detector(x)
    np.testing.assert_allclose(score, expected_score.numpy(), rtol=1e-3, atol=1e-4)  # float32 in another order
    np.testing.assert_allclose(anomaly_map, expected_map.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(distance, expected_distance.numpy(), rtol=1e-3, atol=1e-4)
    assert anomaly_map.shape == (16, 32, 32)


def test_a_score_may_differ_by_a_thousandth_of_a_deviation_from_pytorch_and_no_more(
    learnt: Learnt, graph: Path
) -> None:
    detector, x = copy.deepcopy(learnt.detector), (stripes(16, 3) / 255).float()
    detector.centre -= 5e-4 * detector.scale  # of every score

    parity = measure_parity(graph, detector, x, tolerance=ANOMALY_PARITY_TOLERANCE)

    assert 1e-4 < parity.max_abs_diff < ANOMALY_PARITY_TOLERANCE
    with pytest.raises(ExportError, match="more than 1e-04"):
        measure_parity(graph, detector, x)


def test_a_position_is_judged_by_what_normal_images_have_there() -> None:
    generator = Generator().manual_seed(0)
    f = torch.randn(20_000, 2, 1, 6, generator=generator)
    f[:, 0, :, 3:] = 10.0 + 5.0 * f[:, 0, :, 3:]  # the right half is another thing, and varies more
    x = torch.zeros(1, 2, 1, 6)
    x[0, 0, 0] = torch.tensor([0.0, 5.0, 0.0, 10.0, 15.0, 0.0])

    found = fit_positions(f)(x)[0, 0]

    assert found[[0, 3]].max() < 0.2
    assert float(found[1]) > 2 * float(found[4])
    assert float(found[5]) == pytest.approx(2 / 2**0.5, rel=0.1)  # root mean square over two directions


def test_a_few_images_make_positions_more_alike() -> None:
    generator = Generator().manual_seed(0)
    f = torch.randn(3, 2, 6, 6, generator=generator)
    f[:, 0, :3] *= 0.01  # three images, which hardly differ in the upper half

    positions = fit_positions(f)
    whiten = positions.whiten / positions.unit

    assert whiten.shape == (36, 2, 2)
    assert torch.isfinite(whiten).all()
    assert whiten[0].abs().max() < 4  # not 100


def test_positions_measure_mahalanobis_lengths() -> None:
    positions = Positions(torch.tensor([2.0]), torch.ones(1, 2, 1), torch.tensor([[[2.0]], [[0.5]]]))

    assert positions(torch.full((1, 3, 2, 1), 4.0)).flatten().tolist() == [2.0, 0.5]


def test_texture_measures_mahalanobis_lengths_wherever_it_is() -> None:
    generator = Generator().manual_seed(0)
    f = torch.randn(4, 2, 60, 60, generator=generator) * torch.tensor([1.0, 5.0])[:, None, None] + 3.0

    x = torch.tensor([[7.0, 3.0], [3.0, 13.0]]).T.reshape(1, 2, 1, 2)  # 4 deviations in the first, 2 in the second
    found = fit_texture(f, generator)(x)

    torch.testing.assert_close(found, torch.tensor([[[4.0, 2.0]]]), rtol=0.1, atol=0.0)


def test_what_is_usual_at_a_position_is_taken_off_a_map() -> None:
    maps = torch.randn(200, 20, 20, generator=Generator().manual_seed(0))
    maps[:, :10] = 5 + 3 * maps[:, :10]

    upper, lower = fit_usual(maps, 1)(maps)[:, :8].flatten(), fit_usual(maps, 1)(maps)[:, 12:].flatten()

    assert abs(float(upper.mean() - lower.mean())) < 0.5  # of 5 / 3.4, the deviation over all positions
    assert 1 < float(upper.std() / lower.std()) < 3  # drawn together


def test_neighbours_measure_the_distance_to_the_nearest_entry_of_the_bank() -> None:
    neighbours = Neighbours(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))

    distances = neighbours(torch.tensor([[3.0, 9.0], [4.0, 0.0]]).reshape(1, 2, 1, 2))

    torch.testing.assert_close(distances, torch.tensor([[[5.0, 1.0]]]))


def test_a_bank_lies_close_to_all_features() -> None:
    generator = Generator().manual_seed(0)
    rows = torch.cat([torch.randn(5000, 8, generator=generator), 20 + torch.randn(3, 8, generator=generator)])

    bank = coreset(rows, 300, generator)

    at_random = rows[torch.randperm(len(rows), generator=generator)[:300]]
    farthest, farthest_at_random = (torch.cdist(rows, kept).amin(1).max() for kept in (bank, at_random))
    assert len(set(map(tuple, bank.tolist()))) == 300
    assert float(farthest) < 0.6 * float(farthest_at_random)


def test_a_bank_larger_than_what_there_is_keeps_everything() -> None:
    rows = torch.randn(10, 4, generator=Generator().manual_seed(0))

    assert torch.equal(coreset(rows, 300, Generator().manual_seed(0)), rows)


def test_a_score_is_the_higher_of_a_hundredth_by_distance_and_the_highest_by_position(learnt: Learnt) -> None:
    near, place, fine = torch.zeros(2, 20, 10), torch.zeros(2, 20, 10), torch.zeros(2, 40, 20)
    near[0, 0, :2] = torch.tensor([40.0, 20.0])
    place[1, 3, 3] = 50.0
    evidence = Evidence(near, place, fine)

    torch.testing.assert_close(pooled(evidence), torch.tensor([[30.0, 0.0], [0.0, 50.0]]))
    detector = learnt.detector
    expected = (torch.tensor([30.0, 50.0]) - detector.centre) / detector.scale
    torch.testing.assert_close(detector.score(evidence), expected)


def test_a_map_joins_what_is_coarse_with_what_is_fine() -> None:
    evidence = Evidence(torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 4.0), torch.arange(16.0).reshape(1, 4, 4))

    torch.testing.assert_close(joined(evidence), 3.0 + torch.arange(16.0).reshape(1, 4, 4))


def test_scores_are_in_standard_deviations_of_good_images(learnt: Learnt) -> None:
    assert 0 <= float(learnt.scores.mean()) <= 1  # the higher of two, each with mean 0 and deviation 1
    assert 0.5 <= learnt.scores.std() <= 1.5


def test_lite0_sees_grey_and_colour_and_gives_features_of_every_eighth_pixel() -> None:
    grey = torch.rand(2, 1, 64, 96, generator=Generator().manual_seed(0))
    features = Lite0()

    found, fine = features(grey)

    assert found.shape == (2, features.channels, 64 // features.stride, 96 // features.stride)
    assert fine.shape == (2, 24, 16, 24)
    torch.testing.assert_close((found, fine), features(grey.expand(-1, 3, -1, -1)))
    assert not any(p.requires_grad for p in features.parameters())


def test_pictures_get_lite0_and_small_grey_images_gradients() -> None:
    small, large = torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.zeros(1, 1, 64, 96, dtype=torch.uint8)

    assert isinstance(build_features(DetectorConfig(), small), Gradients)
    assert isinstance(build_features(DetectorConfig(), large), Lite0)
    assert isinstance(build_features(DetectorConfig(), small.expand(1, 3, 64, 64)), Lite0)


@pytest.mark.slow
def test_a_detector_of_pictures_is_one_graph_with_its_backbone_inside(tmp_path: Path) -> None:
    generator = Generator().manual_seed(0)
    images = (torch.rand(12, 3, 64, 64, generator=generator) * 255).to(torch.uint8)

    detector = learn(images, DetectorConfig(features="lite0", dimensions=16, bank=20)).detector
    export_graphs({"anomaly": detector}, {"anomaly": (images / 255).repeat(2, 1, 1, 1)}, tmp_path)

    score, anomaly_map, _ = run_graph(tmp_path / "anomaly.onnx", (images / 255).numpy())
    assert anomaly_map.shape == (12, 64, 64)
    np.testing.assert_allclose(score, detector((images / 255).float())[0].numpy(), rtol=1e-3, atol=1e-3)


def test_pixels_that_are_nan_have_no_effect_and_the_map_is_0_there(learnt: Learnt, graph: Path) -> None:
    """A square is unusual, and hidden it is not; what is beneath the NaN cannot matter, in the graph as in PyTorch."""
    normal = stripes(20, 2)
    hidden = with_squares(normal)[0] / 255
    hidden[:, :, 10:22, 10:22] = torch.nan

    score, anomaly_map, _ = learnt.detector(hidden)
    by_graph, map_by_graph, _ = run_graph(graph, hidden.numpy())

    damaged, *_ = learnt.detector(with_squares(normal)[0] / 255)
    usual, *_ = learnt.detector(normal / 255)
    assert (anomaly_map[:, 10:22, 10:22] == 0).all()
    assert score.median() < usual.max() < damaged.min()
    np.testing.assert_allclose(by_graph, score.numpy(), atol=1e-3)
    np.testing.assert_allclose(map_by_graph, anomaly_map.numpy(), atol=1e-3)


def test_missing_values_are_spread_from_those_around() -> None:
    values = torch.full((1, 1, 8, 8), 3.0)
    weight = torch.ones(1, 1, 8, 8)
    weight[:, :, 2:7, :5] = 0

    assert torch.allclose(spread(values * weight, weight), values)
