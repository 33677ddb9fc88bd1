"""One step of training by hand: what is drawn, what it costs, how far the weights move, and their average."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import trainer
from training.architectures.codec import Codec
from training.architectures.restorer import Restorer
from training.compression.config import CompressionRecipe
from training.compression.photo_config import PhotoCodecRecipe
from training.config import OptimisationConfig, Recipe, RegularisationConfig
from training.images.dataset import Dataset
from training.optimisers import Muon, build_optimisers
from training.problems import grids, one_size, pictures, rows
from training.recipe import load_recipe
from training.regularisation import Regularised
from training.restoration.config import RestorationRecipe
from training.restoration.photos import Pair, Photos
from training.trainer import Batch, Job, Network

CPU = torch.device("cpu")
PLAIN = {"schedule": "constant", "warmup_share": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Slope(nn.Module):
    """One weight, at first 0; the loss is so many times the weight, so its gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x).sum()


def after(steps: int, run_dir: Path, *, gradient: float, **config: float) -> tuple[float, float]:
    """The weight and its average after steps of plain gradient descent with a learning rate of 1."""
    slope = Slope()

    def loss(network: Network, batch: Batch) -> Mapping[str, Tensor]:
        return {"slope": network(batch[0])}

    job = Job(
        name="slope",
        config=OptimisationConfig.model_validate(PLAIN | config),
        network=slope,
        optimisers=[torch.optim.SGD(slope.parameters(), lr=1.0)],
        steps=steps,
        look_every=steps,
        batch_size=1,
        draw=lambda step, _: (torch.tensor([gradient]),),
        loss=loss,
        validate=lambda network: 0.0,
        shown=str,
    )
    trainer.train(job, run_dir=run_dir, device=CPU, progress=False)
    state = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    return float(state["model"]["weight"]), float(state["average"]["weight"])


@pytest.mark.parametrize(("clip", "moved"), [(0.5, -0.5), (2.0, -2.0), (0.0, -1000.0), (5000.0, -1000.0)])
def test_a_gradient_is_cut_to_the_largest_norm_and_0_leaves_it(tmp_path: Path, clip: float, moved: float) -> None:
    weight, _ = after(1, tmp_path, gradient=1000.0, gradient_clip=clip)

    assert weight == pytest.approx(moved, rel=1e-4)  # PyTorch divides by the norm + 1e-6


@pytest.mark.parametrize(("decay", "expected"), [(0.998, -2.7), (0.15, -2.82525), (0.0, -3.0)])
def test_the_average_warms_up_and_then_forgets_as_slowly_as_asked(
    tmp_path: Path, decay: float, expected: float
) -> None:
    weight, average = after(3, tmp_path, gradient=1.0, gradient_clip=0.0, ema_decay=decay)

    # Decays are the smaller of `ema_decay` and 1/10, 2/11, 3/12: -0.9, -1.8 and -2.7 where all of them warm up.
    by_hand = 0.0
    for step in range(3):
        share = min(decay, (1 + step) / (10 + step))
        by_hand = share * by_hand - (1 - share) * (step + 1)
    assert weight == -3.0
    assert average == pytest.approx(by_hand) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_weights_decay_in_proportion_where_nothing_pulls_at_them(optimiser: str) -> None:
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    config = OptimisationConfig.model_validate(
        {"optimiser": optimiser, "learning_rate": 0.5, "muon_learning_rate": 0.5, "weight_decay": 0.1}
    )

    for one in build_optimisers(layer, config):
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        one.step()

    for old, new in zip(before, layer.parameters(), strict=True):
        assert torch.allclose(new, old * (1 - 0.5 * 0.1))


@pytest.mark.parametrize("shape", [(36, 4), (36, 2, 2, 1), (8, 4)])
def test_muon_moves_a_tall_matrix_further_by_the_root_of_its_shape(shape: tuple[int, ...]) -> None:
    gradient = torch.randn(shape[0], 4, generator=generator())
    tall, wide = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(4, shape[0]))
    tall.grad, wide.grad = gradient.reshape(shape), gradient.T.contiguous()

    Muon([tall, wide], lr=0.1).step()

    # The nearest orthogonal matrix of a transposed one is the transposed one.
    assert torch.allclose(tall.detach().reshape(-1, 4), wide.detach().T * (shape[0] / 4) ** 0.5, atol=1e-6)


def squares(count: int, side: int) -> Tensor:
    """Mid-grey images with a brighter square somewhere: bytes, far from black and white."""
    images = torch.full((count, 1, side, side), 128, dtype=torch.uint8)
    for i, image in enumerate(images):
        image[0, i % 4 : i % 4 + 4, 2:6] = 140
    return images


def digits_like(images: Tensor) -> Dataset:
    return Dataset("squares", "made here", "CC0-1.0", "0" * 64, images, images[:4], images[:4], images[:4])


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_images_go_into_training_with_the_noise_of_the_recipe_but_for_the_clean_share(sigma: float) -> None:
    recipe = load_recipe(
        "digits",
        ("data.height=16", "data.width=16", "training.batch_size=200", "augmentation.share=0",
         f"corruption.options={{sigma={sigma}, mean=0.0}}", "corruption.clean_share=0.25"),
        of=Recipe,
    )  # fmt: skip
    job = one_size.job(recipe, digits_like(squares(200, 16)), CPU)

    x, x_in, *_ = job.draw(0, generator())

    added = (x_in - x).flatten(1)
    is_clean = added.abs().amax(1) == 0
    assert is_clean.float().mean() == pytest.approx(0.25, abs=0.12)  # 4 standard deviations of 200 draws
    assert added[~is_clean].std() == pytest.approx(sigma, rel=0.03)  # of 38,400 draws or so


class Flat(nn.Module):
    """Latents that are the pixels, and back."""

    latent_dim = 4

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.reshape(-1, 1, 2, 2)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_a_variational_autoencoder_decodes_latents_with_noise_of_sigma(sigma: float) -> None:
    x, noise = torch.rand(3, 1, 2, 2, generator=generator()), torch.randn(3, 4, generator=generator(1))
    config = RegularisationConfig(name="kl", sigma=sigma)

    x_hat, penalty = Regularised(Flat(), config)(x, noise)

    z = x.flatten(1)
    assert torch.allclose(x_hat.flatten(1), z + sigma * noise)
    variance = torch.tensor(sigma**2)
    expected = 0.5 * (z.square() + variance - 1 - variance.log()).sum(1).mean()  # of N(z, sigma²) from N(0, 1)
    assert penalty == pytest.approx(float(expected))


def photos_like(image: Tensor) -> Photos:
    pair = Pair("grey", image, image)
    return Photos(name="grey", sha256="0" * 64, train=(pair,), validation=(pair,), skipped=())


def test_a_picture_goes_into_training_as_noisy_as_the_network_is_told() -> None:
    recipe = load_recipe(
        "denoise",
        ("training.batch_size=6", "training.patch=64", "data.channels=1", "network.widths=[4, 4]",
         "network.blocks=[1, 1]", "degradation.kinds={gaussian=1}"),
        of=RestorationRecipe,
    )  # fmt: skip
    grey = torch.full((1, 80, 80), 128, dtype=torch.uint8)

    x_in, sigma, x = pictures.job(recipe, photos_like(grey), CPU).draw(0, generator())

    found = (x_in - x).flatten(1).std(1) * 255
    assert sigma.max() > 20
    assert torch.allclose(found, sigma, rtol=0.06)  # 5 standard deviations of 4,096 draws


def test_the_network_sees_the_noise_level_in_the_unit_of_its_pixels() -> None:
    seen: list[Tensor] = []
    network = Restorer(1, widths=(4, 4), blocks=(1, 1))
    network.stem.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))

    network(torch.zeros(2, 1, 8, 8), torch.tensor([51.0, 255.0]))

    assert torch.allclose(seen[0][0, -1], torch.tensor(0.2))
    assert torch.allclose(seen[0][1, -1], torch.tensor(1.0))


def row_job() -> Job:
    recipe = load_recipe(
        "digits-compressed",
        ("data.height=8", "data.width=8", "training.batch_size=40", "training.precision=fp32", "lambdas=[0.5, 0.05]",
         "architecture.options={latent_dim=6, widths=[4, 8], blocks=[0, 1], neck=4, hidden=16}", "default_rate=0"),
        of=CompressionRecipe,
    )  # fmt: skip
    return rows.job(recipe, digits_like(squares(40, 8)), CPU)


def grid_job() -> Job:
    recipe = load_recipe(
        "photo-compressed",
        ("quantisation=[60.0, 12.0]", "default_rate=0", "chroma=1.0", "training.patch=16", "training.batch_size=16",
         "training.precision=fp32", "network.width=4", "network.depth=2"),
        of=PhotoCodecRecipe,
    )  # fmt: skip
    photo = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator())
    return grids.job(recipe, photos_like(photo), CPU)


CODECS = pytest.mark.parametrize("make", [row_job, grid_job])


@CODECS
def test_training_counts_the_bits_of_values_with_noise_of_one_step(make: object) -> None:
    job: Job = make()  # type: ignore[operator]  # one of two functions
    network = job.network
    x, rate, noise = job.draw(0, generator())

    with torch.no_grad():
        _, bits = network(x, rate, noise)
        y = network.encode(x, rate)  # type: ignore[operator]  # nn.Module types its attributes Tensor | Module
        expected = network.bits(y + noise - 0.5, rate)  # type: ignore[operator]  # as above

    assert torch.allclose(bits, expected)
    assert noise.shape == y.shape
    assert noise.min() >= 0
    assert noise.max() < 1
    assert noise.std() == pytest.approx(12**-0.5, rel=0.1)  # of a uniform distribution
    one, other = (job.loss(network, (x, rate, n))["trade_off"] for n in (noise, 1 - noise))
    assert not torch.equal(one, other)


@CODECS
def test_a_rate_counts_by_its_price_to_the_power_of_seven_tenths(make: object) -> None:
    """Undivided the dear rates would rule the training, divided by the whole price the cheap ones."""
    job: Job = make()  # type: ignore[operator]  # one of two functions
    x, rate, noise = job.draw(0, generator())
    prices = (
        torch.tensor([0.5, 0.05])
        if isinstance(job.network, Codec)
        else 0.13 * torch.tensor([60.0, 12.0, 60.0, 12.0]).div(255).square()  # luma, then chroma
    )

    with torch.no_grad():
        found = job.loss(job.network, (x, rate, noise))["trade_off"]
        x_hat, bits = job.network(x, rate, noise)

    error = (x_hat - x).square().sum(dim=(1, 2, 3))
    each = (error + prices[rate] * bits) / prices[rate] ** 0.7
    assert len(set(rate.tolist())) > 1
    assert float(found) == pytest.approx(float(each.mean()), rel=1e-4)
