"""The training side of the latent space: what is asked of latents, what is drawn from them, and how they are judged."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.models.judge import Judge, frechet_distance
from service.contract.version import manifest_of
from training import trainer
from training.__main__ import main
from training.architectures import build
from training.config import PriorConfig, Recipe, RecipeError, RegularisationConfig
from training.exported import run_graph
from training.graphs import Generate
from training.images.dataset import Dataset, load_data
from training.images.pixels import to_pixels
from training.latents import describe
from training.measure.retrieval import mean_average_precision, neighbour_accuracy
from training.prior import FittedPrior, Mixture, Prior, choose_components, fit_mixture, fit_prior
from training.problems import one_size
from training.problems.one_size_model import check_recipe
from training.recipe import load_recipe
from training.regularisation import REGULARISERS, Regularised, Step, check_regularisation
from training.start import load_start

CPU = torch.device("cpu")
TINY = (
    "architecture.name=mlp",
    "architecture.options={latent_dim=2, hidden=[8]}",
    "training.epochs=2",
    "training.batch_size=32",
    "prior.components=2",
)


def linear() -> torch.nn.Module:
    recipe = load_recipe("linear", ("data.height=4", "data.width=4", "architecture.options={latent_dim=3}"), of=Recipe)
    return build(recipe)


def step(z: torch.Tensor, *, sigma: float = 0.5) -> Step:
    model, noise = linear(), torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    return Step(model, torch.zeros(len(z), 1, 4, 4), z, noise, sigma)


Z = torch.tensor([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", (1 + 2 + 3) / 6),
        ("l2", (1 + 4 + 9) / 6),
        ("kl", 0.5 * (14 / 2 + 3 * (0.25 - 1 - math.log(0.25)))),  # the closed form between two Gaussians
    ],
)
def test_a_penalty_has_its_hand_value(name: str, expected: float) -> None:
    assert float(REGULARISERS[name](step(Z))) == pytest.approx(expected, rel=1e-6)


def test_the_contractive_penalty_is_the_squared_norm_of_the_jacobian() -> None:
    state = step(torch.zeros(4000, 3))

    penalty = float(REGULARISERS["contractive"](state).detach())

    weight = state.model.encoder.weight  # type: ignore[union-attr]  # nn.Module types its attributes Tensor | Module
    expected = float(weight.square().sum().detach())  # type: ignore[operator]
    assert penalty == pytest.approx(expected, rel=0.1)  # 4000 random projections: one standard error is 1.3 %


@pytest.mark.parametrize("name", sorted(REGULARISERS))
def test_a_penalty_reaches_the_encoder_and_lands_in_the_history(name: str, tmp_path: Path) -> None:
    images = torch.randint(0, 255, (60, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Dataset("noise", "made here", "CC0-1.0", "0" * 64, images[:40], images[40:50], images[50:], images[50:])
    recipe = load_recipe("digits-2d", (*TINY, f"regularisation.name={name}", "regularisation.strength=0.5"), of=Recipe)

    report = trainer.train(one_size.job(recipe, data, CPU), run_dir=tmp_path, device=CPU, progress=False)

    entry = report.history[-1]
    assert entry[name] > 0
    assert entry["training_loss"] > entry[name]
    model = build(recipe)
    network = Regularised(model, recipe.regularisation)
    network(torch.rand(4, 1, 28, 28), torch.randn(4, 2))[1].backward()
    gradient = model.encoder[0].weight.grad  # type: ignore[index,union-attr]  # as above
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_an_unknown_regularisation_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="no regularisation 'l3'; there are none, contractive, kl, l1, l2"):
        check_regularisation(linear(), RegularisationConfig(name="l3"))


def test_a_network_without_a_latent_cannot_be_regularised() -> None:
    recipe = load_recipe("digits-unet", ("regularisation.name=l1",), of=Recipe)

    with pytest.raises(RecipeError, match="has no latent"):
        check_recipe(recipe)


def test_a_prior_of_one_gaussian_has_the_mean_and_covariance_of_the_latents() -> None:
    z = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) @ torch.tensor(
        [[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.1]]
    ) + torch.tensor([1.0, -1.0, 5.0])

    prior = fit_prior(z, None, PriorConfig(components=1), seed=0).network()
    drawn = prior(torch.randn(200_000, 3, generator=torch.Generator().manual_seed(2)))

    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.02)  # 4 standard errors of 200,000 draws
    np.testing.assert_allclose(torch.cov(drawn.T), torch.cov(z.T), atol=0.06)


def test_a_mixture_finds_two_clouds_and_the_last_number_picks_one() -> None:
    generator = torch.Generator().manual_seed(0)
    clouds = torch.cat([torch.randn(300, 2, generator=generator) - 8, torch.randn(100, 2, generator=generator) + 8])

    mixture = fit_mixture(clouds, 2, generator)
    prior = Prior((mixture,), (), ())
    z = prior(torch.randn(20_000, 3, generator=generator))

    assert sorted(mixture.weights.tolist()) == pytest.approx([0.25, 0.75], abs=1e-6)
    assert prior.noise_dim == 3
    assert float((z[:, 0] < 0).float().mean()) == pytest.approx(0.75, abs=0.012)  # 4 standard errors


def test_components_are_as_many_as_held_out_latents_ask_for() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2000, 2, generator=generator)
    corners = torch.tensor([[-9.0, -9.0], [-9.0, 9.0], [9.0, -9.0], [9.0, 9.0]])
    four = one + corners[torch.randint(4, (2000,), generator=generator)]

    assert choose_components([one], seed=0) == 1
    assert choose_components([four], seed=0) >= 4
    assert choose_components([four[:20]], seed=0) <= 2  # 20 images do not fix more
    assert fit_prior(four, None, PriorConfig(), seed=0).network().components >= 4


def test_a_label_draws_from_its_own_mixture_also_where_it_has_fewer_components() -> None:
    def at(*places: float) -> Mixture:
        means = torch.tensor(places, dtype=torch.float64)[:, None].expand(-1, 2).contiguous()
        weights = torch.full((len(places),), 1 / len(places), dtype=torch.float64)
        return Mixture(weights, means, 1e-6 * torch.eye(2, dtype=torch.float64).expand(len(places), 2, 2))

    prior = Prior((at(1.0, 2.0), at(7.0)), ("a", "b"), (0.5, 0.5))
    e = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))

    a, b = (prior(e, torch.full((100,), label))[:, 0] for label in (0.0, 1.0))

    assert set(a.round().tolist()) == {1.0, 2.0}
    assert set(b.round().tolist()) == {7.0}


def test_neighbours_vote_and_the_nearest_breaks_a_tie() -> None:
    gallery = torch.tensor([[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]])
    labels = torch.tensor([1, 0, 1, 0, 2, 2], dtype=torch.uint8)
    queries = torch.tensor([[-0.1], [9.2]])  # the second sees two of 2, and of 0 and 1 three in all

    accuracy = neighbour_accuracy(gallery[:4], labels[:4], queries[:1], torch.tensor([1], dtype=torch.uint8))

    assert accuracy == 1.0
    assert neighbour_accuracy(gallery, labels, queries, torch.tensor([0, 2], dtype=torch.uint8)) == 0.5


def test_average_precision_has_its_hand_value() -> None:
    gallery = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    labels = torch.tensor([0, 1, 0, 1], dtype=torch.uint8)

    value = mean_average_precision(gallery, labels, torch.tensor([[0.0]]), torch.tensor([0], dtype=torch.uint8))

    assert value == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_directions_are_unit_vectors_by_falling_spread() -> None:
    z = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.2])

    latent = describe(z)

    assert np.abs(latent.directions[0]).argmax() == 1
    assert list(latent.spread) == sorted(latent.spread, reverse=True)
    np.testing.assert_allclose(np.asarray(latent.directions) @ np.transpose(latent.directions), np.eye(3), atol=1e-5)


def test_generate_is_exported_as_the_network_computes_it(tmp_path: Path) -> None:
    from training.export import export_graphs  # noqa: PLC0415 - only here

    model = build(load_recipe("digits-2d", TINY, of=Recipe)).eval()
    z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(400) % 2).to(torch.uint8)
    network = Generate(model, fit_prior(z, labels, PriorConfig(components=3), seed=0).network()).eval()
    e, label = torch.randn(16, 3), torch.arange(16) % 2 * 1.0

    described, _ = export_graphs({"generate": network}, {"generate": (e, label)}, tmp_path)

    assert [t.name for t in described["generate"].inputs] == ["e", "label"]
    (x_hat,) = run_graph(tmp_path / "generate.onnx", e.numpy(), label.numpy())
    np.testing.assert_allclose(x_hat, network(e, label).detach(), atol=1e-5)  # float32 in another order


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_model_that_draws_is_published_with_its_map(precision: str, idx_folder: Path, tmp_path: Path) -> None:
    where = ["--data", str(idx_folder), "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    overrides = [*TINY, f"export.precision={precision}", "export.max_loss_rise=9"]

    assert main(["fit", "digits-2d", *where, "--quiet", *overrides]) == 0

    home = tmp_path / "models" / "digits-2d" / "1"
    manifest = manifest_of(home)
    assert manifest.generate is not None
    assert manifest.generate.labels == ("0",)
    assert manifest.examples is not None
    assert len(manifest.examples.labels) == 40
    assert manifest.latent is not None
    assert len(manifest.latent.directions) == 2
    assert {"knn_accuracy", "map"} <= {m.name for m in manifest.metrics}
    noise_dim = manifest.tasks["generate"].inputs[0].shape[1]
    e = np.random.default_rng(0).standard_normal((5, int(noise_dim))).astype(np.float32)
    (x_hat,) = run_graph(home / "generate.onnx", e, np.zeros(5, np.float32))
    assert x_hat.shape == (5, 1, 28, 28)


@pytest.mark.slow
def test_another_prior_keeps_the_weights(idx_folder: Path, tmp_path: Path) -> None:
    where = ["--data", str(idx_folder), "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    main(["fit", "digits-2d", *where, "--quiet", *TINY])
    weights = (tmp_path / "runs/digits-2d/weights.pt").stat().st_mtime_ns

    assert main(["fit", "digits-2d", *where, "--quiet", *TINY, "prior.components=1"]) == 0

    assert (tmp_path / "runs/digits-2d/weights.pt").stat().st_mtime_ns == weights
    manifest = json.loads((tmp_path / "models/digits-2d/2/manifest.json").read_bytes())
    assert manifest["tasks"]["generate"]["inputs"][0]["shape"][1] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("int8", 2e-2)])  # int8: half a step of 1/64
def test_a_training_starts_from_a_published_model(
    precision: str, tolerance: float, idx_folder: Path, tmp_path: Path
) -> None:
    where = ["--data", str(idx_folder), "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    options = "architecture.options={latent_dim=3, widths=[4, 8], blocks=[1, 1], neck=4, hidden=8}"
    overrides = ['tasks=["encode", "decode"]', "default_for=[]", options, "training.epochs=1"]
    overrides += [f"export.precision={precision}", "export.max_loss_rise=9", "augmentation.share=0"]
    assert main(["fit", "digits", *where, "--quiet", *overrides]) == 0
    recipe = load_recipe("digits", tuple(overrides), of=Recipe)
    trained, model = one_size.trained(recipe, tmp_path / "runs/digits"), build(recipe)

    load_start(model, tmp_path / "models/digits/1")

    pairs = zip(trained.state_dict().items(), model.state_dict().values(), strict=True)
    for (name, a), b in pairs:
        assert float((a - b).abs().max()) <= tolerance * float(a.abs().max() + 1), name
    again = ["--name", "again", *overrides, f"training.start_from={tmp_path / 'models/digits/1'}"]
    assert main(["fit", "digits", *where, "--quiet", *again]) == 0
    manifest = manifest_of(tmp_path / "models/again/1")
    assert manifest.provenance.start is not None
    assert manifest.provenance.start.name == "digits"


def test_what_was_fitted_is_read_back_as_it_was(tmp_path: Path) -> None:
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    fitted = fit_prior(z, None, PriorConfig(components=2), seed=0)
    fitted.save(tmp_path / "prior.pt")

    e = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))

    assert torch.equal(FittedPrior.load(tmp_path / "prior.pt").network()(e), fitted.network()(e))


def test_the_frechet_distance_of_two_gaussians_has_its_closed_form() -> None:
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))

    distance = frechet_distance(x, 2 * x + torch.tensor([1.0, 0.0, 2.0]))

    assert distance == pytest.approx(1 + 4 + 3 * (2 - 1) ** 2, rel=0.03)  # 20,000 draws; shift² + (s_a - s_b)² each


def test_the_judge_finds_images_far_from_the_test_images_worse(idx_folder: Path) -> None:
    data = load_data(load_recipe("digits-2d", of=Recipe).data, idx_folder, seed=0)
    judge = Judge(data)

    real, noise = judge.judge(to_pixels(data.test)), judge.judge(torch.rand(40, 1, 28, 28))

    assert real.distance == pytest.approx(0, abs=1e-6)
    assert real.nearest == pytest.approx(1)
    assert noise.distance > real.distance
    assert noise.nearest > 1
