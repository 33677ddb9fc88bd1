"""Metrics of the exported graphs on the test images, which nothing else uses, with baselines."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from service.contract.manifest import Metric, Task
from training.config import Recipe
from training.errors import RunError
from training.exported import served
from training.graphs import graph_for
from training.images.dataset import Dataset
from training.images.pixels import to_pixels
from training.latents import describe, examples, latents, principal_components
from training.measure.baselines import LARGEST_LINEAR, denoising_baselines, reduced_rank_regression
from training.measure.psnr import CHUNK, mean_squared_error, psnr_db
from training.measure.retrieval import mean_average_precision, neighbour_accuracy
from training.problems.one_size import trained
from training.run import EVALUATION, Run

MAP_DIM = 2  # latents that make a map: there the manifest gets examples
MAP_QUERIES = 500  # each orders the whole gallery
OneSizeRun = Run[Recipe, Dataset]
IN_FLOAT32 = "same network in float32"


def evaluate(run: OneSizeRun, beside: tuple[OneSizeRun, ...] = (), *, progress: bool = True) -> None:
    """Measure the exported graphs and write metrics and statistics of latents to `evaluation.json`.

    Args:
        run: An exported run.
        beside: Other evaluated runs on the same images; their denoising error becomes a baseline.
        progress: Show progress bars.

    Raises:
        RunError: A run in `beside` was measured on other images, or not yet.
    """
    model = trained(run.recipe, run.directory)
    metrics: list[Metric] = []
    if "denoise" in run.recipe.tasks:
        metrics += _denoising(run, model, beside, progress=progress)
    if (reconstruct := _reconstruct_as_served(run, model)) is not None:
        metrics += _reconstruction(run, model, reconstruct, progress=progress)
    content: dict[str, object] = {"latent": None, "examples": None}
    if model.latent_dim is not None:
        encode = _as_served(run, model, "encode")
        z = latents(encode, run.data.train)
        content["latent"] = describe(z).model_dump()
        if "encode" in run.recipe.tasks:
            metrics += _neighbours(run, encode, z, progress=progress)
        if z.shape[1] == MAP_DIM and run.data.test_labels is not None:
            content["examples"] = examples(encode, run.data.test, run.data.test_labels).model_dump()
    run.write(EVALUATION, {"metrics": [m.model_dump() for m in metrics], **content})


def _denoising(run: OneSizeRun, model: nn.Module, beside: tuple[OneSizeRun, ...], *, progress: bool) -> list[Metric]:
    data, corruption = run.data, run.recipe.corruption
    mse = mean_squared_error(_as_served(run, model, "denoise"), data.test, corruption)
    rank = model.latent_dim if isinstance(model.latent_dim, int) else None
    functions = denoising_baselines(data.train, corruption, rank, progress=progress)
    baselines = {name: mean_squared_error(f, data.test, corruption) for name, f in functions.items()}
    if run.recipe.export.precision != "float32":
        baselines[IN_FLOAT32] = mean_squared_error(graph_for("denoise", model), data.test, corruption)
    for other in beside:
        baselines[f"recipe {other.name}"] = _denoise_mse_of(other, run)
    options = ", ".join(f"{k} {v}" for k, v in corruption.options.items())
    on = f"{len(data.test)} test images of {data.name}, fixed {corruption.name} noise ({options or 'defaults'})"
    metrics = [
        Metric(
            name="denoise_mse", task="denoise", value=mse, unit="mse", data=on, higher_is_better=False,
            baselines=baselines,
        )
    ]  # fmt: skip
    if mse > 0:  # an error of 0 has no decibels; without a corruption the "noisy" input has none
        decibels = {name: psnr_db(value) for name, value in baselines.items() if value > 0}
        metrics.append(
            Metric(
                name="denoise_psnr_db", task="denoise", value=psnr_db(mse), unit="dB of the mean mse", data=on,
                higher_is_better=True, baselines=decibels,
            )
        )  # fmt: skip
    return metrics


def _denoise_mse_of(other: OneSizeRun, run: OneSizeRun) -> float:
    same_corruption = other.recipe.corruption.model_copy(update={"clean_share": 0.0}) == (
        run.recipe.corruption.model_copy(update={"clean_share": 0.0})  # only training leaves images clean
    )
    if not same_corruption or not torch.equal(other.data.test, run.data.test):
        differs = "test images" if same_corruption else "corruption"
        raise RunError(
            f"{other.directory} has another {differs}, so its figures cannot be compared with those of {run.directory}"
        )
    metrics = [Metric.model_validate(m) for m in other.read(EVALUATION, "evaluate")["metrics"]]
    values = [m.value for m in metrics if m.name == "denoise_mse"]
    if not values:
        raise RunError(f"{other.directory} does not denoise; it offers {', '.join(other.recipe.tasks)}")
    return values[0]


def _reconstruction(
    run: OneSizeRun, model: nn.Module, reconstruct: Callable[[Tensor], Tensor], *, progress: bool
) -> list[Metric]:
    data, rank = run.data, model.latent_dim
    assert isinstance(rank, int)  # noqa: S101 - the caller looked
    mean = torch.stack([to_pixels(c).sum(0) for c in torch.split(data.train, CHUNK)]).sum(0) / len(data.train)
    baselines = {"mean image": mean_squared_error(mean.expand_as, data.test, None)}
    if data.train[0].numel() <= LARGEST_LINEAR:
        pca = reduced_rank_regression(data.train, None, rank, progress=progress)
        baselines[f"PCA of {rank} components"] = mean_squared_error(pca, data.test, None)
    mse = mean_squared_error(reconstruct, data.test, None)
    if run.recipe.export.precision != "float32":
        baselines[IN_FLOAT32] = mean_squared_error(graph_for("denoise", model), data.test, None)
    on = f"{len(data.test)} clean test images of {data.name}"
    return [
        Metric(
            name="reconstruct_mse", task="decode", value=mse, unit="mse", data=on, higher_is_better=False,
            baselines=baselines,
        )
    ]  # fmt: skip


def _neighbours(run: OneSizeRun, encode: Callable[[Tensor], Tensor], z: Tensor, *, progress: bool) -> list[Metric]:
    """Measure how well the nearest training images predict the label of a test image; empty without labels."""
    data, rank = run.data, z.shape[1]
    if data.train_labels is None or data.test_labels is None:
        return []
    features = {"": (z, latents(encode, data.test))}
    if data.train[0].numel() <= LARGEST_LINEAR:
        pixels = to_pixels(data.train).flatten(1), to_pixels(data.test).flatten(1)
        mean, directions = principal_components(pixels[0], rank)
        features["raw pixels"] = pixels
        features[f"PCA of {rank} components"] = ((pixels[0] - mean) @ directions, (pixels[1] - mean) @ directions)
    accuracy, precision = (
        {
            name: judge(gallery, data.train_labels, queries[:count], data.test_labels[:count], progress=progress)
            for name, (gallery, queries) in features.items()
        }
        for judge, count in ((neighbour_accuracy, len(data.test)), (mean_average_precision, MAP_QUERIES))
    )
    on = f"{data.name} against {len(z)} training images; labels only judge"
    return [
        Metric(
            name="knn_accuracy", task="encode", value=accuracy.pop(""), unit="share of images, 5 nearest latents",
            data=f"{len(data.test)} test images of {on}", higher_is_better=True, baselines=accuracy,
        ),
        Metric(
            name="map", task="encode", value=precision.pop(""), unit="mean average precision",
            data=f"{len(data.test[:MAP_QUERIES])} test images of {on}", higher_is_better=True, baselines=precision,
        ),
    ]  # fmt: skip


def _reconstruct_as_served(run: OneSizeRun, model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return decode(encode(x)) of the int8 graphs; None if there is no latent, or if no int8 graph computes it."""
    if model.latent_dim is None:
        return None
    if {"encode", "decode"} <= set(run.recipe.tasks):
        encode, decode = _as_served(run, model, "encode"), _as_served(run, model, "decode")
        return lambda x: decode(encode(x))
    if "denoise" in run.recipe.tasks or run.recipe.export.precision == "float32":
        return _as_served(run, model, "denoise")
    return None


def _as_served(run: OneSizeRun, model: nn.Module, task: Task) -> Callable[[Tensor], Tensor]:
    """Return the task's graph, or its network if the recipe does not offer the task."""
    return served(run.path(f"{task}.onnx")) if task in run.recipe.tasks else graph_for(task, model)
