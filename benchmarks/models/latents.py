"""Effects of regularisation on a latent space, and quality of images generated from it, for docs/latent.md."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.models.judge import Judge, Judged, table
from benchmarks.page import write_between
from training.config import PriorConfig, Recipe
from training.exported import served
from training.graphs import graph_for
from training.images.dataset import Dataset, load_data
from training.images.pixels import to_pixels
from training.latents import latents, principal_components
from training.measure.psnr import mean_squared_error
from training.measure.retrieval import neighbour_accuracy
from training.prior import Prior, fit_prior
from training.problems.one_size import job
from training.published import newest
from training.recipe import load_recipe
from training.trainer import train

PAGE = "latent.md"
DRAWN = 5000
ACTIVE = 0.1  # of the root mean square of all latents: below, a latent is as good as off
# Chosen before any figure was seen, from the size of each penalty at the start.
STRENGTHS = {"none": 0.0, "l1": 3e-3, "l2": 1e-3, "contractive": 1e-4, "kl": 1e-4}
SHORT = (
    "architecture.options={latent_dim=32, hidden=[256, 128]}",
    "training.epochs=4",
)
PRIORS = {
    "one Gaussian": PriorConfig(components=1, is_by_label=False),
    "a mixture of 64": PriorConfig(components=64, is_by_label=False),
    "one Gaussian per digit": PriorConfig(components=1),
    "a mixture of 8 per digit": PriorConfig(components=8),
    "a mixture of 16 per digit": PriorConfig(components=16),
    "a mixture of 32 per digit": PriorConfig(components=32),
}


def benchmark_regularisation(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Train one small network with each regularisation; measure sparsity, error, neighbours and generated images."""
    images = _mnist(data)
    judge = Judge(images)
    rows = [
        "| regularisation | strength | reconstruction error | active latents | kNN accuracy | Frechet distance |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, strength in STRENGTHS.items():
        epochs = ("training.epochs=1",) if is_quick else ()
        overrides = (f"regularisation.name={name}", f"regularisation.strength={strength}", *epochs)
        recipe = load_recipe("digits-2d", (*SHORT, *overrides), of=Recipe)
        model = _trained(images, recipe)
        encode = graph_for("encode", model)
        z, z_test = latents(encode, images.train), latents(encode, images.test)
        error = mean_squared_error(lambda x, model=model: model(x), images.test, None)  # type: ignore[misc]  # bound now
        active = float((z_test.abs() > ACTIVE * z_test.square().mean().sqrt()).float().mean())
        accuracy = _accuracy(images, z, z_test)
        prior = fit_prior(z, images.train_labels, PRIORS["a mixture of 8 per digit"], seed=0).network()
        drawn = judge.judge(_draw(prior, graph_for("decode", model)))
        rows.append(f"| {name} | {strength:g} | {error:.4f} | {active:.0%} | {accuracy:.4f} | {drawn.distance:.2f} |")
        tqdm.write(rows[-1])
    about = (
        f"784-256-128-32 perceptrons, {recipe.training.epochs} epochs each, seed 0, figures on the {len(images.test)} "
        f"test images. Active latents are farther from zero than {ACTIVE:.0%} of the root mean square of all. The "
        f"Frechet distance is that of {DRAWN} images drawn from a mixture of 8 Gaussians per digit (below)."
    )
    _say(docs, "regularisation", ["\n".join(rows), about], is_quick=is_quick)


def benchmark_generation(data: Path, models: Path, docs: Path, *, is_quick: bool) -> None:
    """Measure images generated from several priors with the decoder of the shipped `digits`, real images and PCA's.

    `digits-vae` is included if it has been trained.
    """
    images = _mnist(data)
    judge = Judge(images)
    names = [name for name in ("digits", "digits-vae") if (models / name).is_dir()]
    judged: dict[str, Judged] = {
        "training images": judge.judge(to_pixels(images.train[:DRAWN])),
        "PCA of 32 components, one Gaussian": judge.judge(_pca_images(images)),
    }
    others, versions = [], []
    for name in names:
        version = newest(models, name)
        encode, decode = served(version / "encode.onnx"), served(version / "decode.onnx")
        z = latents(encode, images.train)
        for prior_name, config in PRIORS.items():
            prior = fit_prior(z, images.train_labels, config, seed=0).network()
            judged[f"{name}, {prior_name}"] = judge.judge(_draw(prior, decode))
            tqdm.write(table(judged).splitlines()[-1])
        versions.append(f"`{name}` is version {version.name}")
        others.append(f"{_accuracy(images, z, latents(encode, images.test)):.4f} for `{name}`")
    about = (
        f"{DRAWN} images each, against the {len(images.test)} test images; {', '.join(versions)}. Accuracy of five "
        f"nearest neighbours in its latents: {', '.join(others)}. The "
        f"classifier (two convolutions, 64 features) has an accuracy of {judge.accuracy:.4f} on test images. Sure: its "
        "probability is 0.95 or more. Diversity: entropy of the digits it sees, 1 is as many of each. Nearest training "
        "image: mean distance in pixels over that of test images; a model that had learned images by heart would be "
        "far below 1."
    )
    _say(docs, "generation", [table(judged), about], is_quick=is_quick)


def _mnist(data: Path) -> Dataset:
    folder = data / "mnist" if (data / "mnist").is_dir() else data
    return load_data(load_recipe("digits-2d", of=Recipe).data, folder, seed=0)


def _trained(images: Dataset, recipe: Recipe) -> nn.Module:
    device = torch.device("cpu")
    work = job(recipe, images, device)
    with tempfile.TemporaryDirectory() as folder:
        train(work, run_dir=Path(folder), device=device, progress=True)
    return work.network


def _accuracy(images: Dataset, z: Tensor, z_test: Tensor) -> float:
    assert images.train_labels is not None and images.test_labels is not None  # noqa: PT018 - the judge looked
    return neighbour_accuracy(z, images.train_labels, z_test, images.test_labels)


@torch.no_grad()
def _draw(prior: Prior, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """Generate images as the service does, with labels by their shares among the training images."""
    generator = torch.Generator().manual_seed(1)
    e = torch.randn((DRAWN, prior.noise_dim), generator=generator)
    label: Tensor | None = None
    if prior.labels:
        label = torch.multinomial(torch.tensor(prior.shares), DRAWN, replacement=True, generator=generator).float()
    return torch.cat([decode(z) for z in torch.split(prior(e, label), 500)])


def _pca_images(images: Dataset) -> Tensor:
    """Generate images from a Gaussian of the first 32 principal components, the baseline."""
    x = to_pixels(images.train).flatten(1)
    mean, directions = principal_components(x, 32)
    spread = ((x - mean) @ directions).std(0)
    e = torch.randn((DRAWN, 32), generator=torch.Generator().manual_seed(1))
    flat = mean + (e * spread) @ directions.T
    return flat.clamp(0.0, 1.0).reshape(DRAWN, *images.train.shape[1:])


def _say(docs: Path, name: str, lines: list[str], *, is_quick: bool) -> None:
    tqdm.write("\n\n".join(lines))
    if not is_quick:
        write_between(docs / PAGE, name, lines)
