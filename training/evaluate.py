"""Figures of the graphs that are served, on the test images, which nothing else ever sees; each beside what is free."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from service.manifest import Latent, Metric, Task
from training.baselines import LARGEST_LINEAR, denoising_baselines, reduced_rank_regression
from training.errors import RunError
from training.export import served
from training.graphs import graph_for
from training.loop import load_weights, to_pixels
from training.metrics import CHUNK, mean_squared_error, psnr_db
from training.run import EVALUATION, Run

IN_FLOAT32 = "same network in float32"


def evaluate(run: Run, beside: tuple[Run, ...] = (), *, progress: bool = True) -> None:
    """Measure the exported graphs and keep their metrics and the statistics of their latents in `evaluation.json`.

    Args:
        run: An exported run.
        beside: Other evaluated runs on the same images; their denoising error becomes a baseline.
        progress: Show bars.

    Raises:
        RunError: A run in `beside` was measured on something else, or not yet.
    """
    model = load_weights(run.recipe, run.directory)
    metrics: list[Metric] = []
    if "denoise" in run.recipe.tasks:
        metrics += _denoising(run, model, beside, progress=progress)
    if (reconstruct := _reconstruct_as_served(run, model)) is not None:
        metrics += _reconstruction(run, model, reconstruct, progress=progress)
    latent = _latent_statistics(run, model) if model.latent_dim is not None else None
    content = {"metrics": [m.model_dump() for m in metrics], "latent": latent.model_dump() if latent else None}
    run.write(EVALUATION, content)


def _denoising(run: Run, model: nn.Module, beside: tuple[Run, ...], *, progress: bool) -> list[Metric]:
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


def _denoise_mse_of(other: Run, run: Run) -> float:
    same_corruption = other.recipe.corruption.model_copy(update={"clean_share": 0.0}) == (
        run.recipe.corruption.model_copy(update={"clean_share": 0.0})  # only training leaves images clean
    )
    if not same_corruption or not torch.equal(other.data.test, run.data.test):
        differs = "test images" if same_corruption else "corruption"
        raise RunError(f"{other.directory} has another {differs}, so its figures cannot stand beside {run.directory}")
    metrics = [Metric.model_validate(m) for m in other.read(EVALUATION, "evaluate")["metrics"]]
    values = [m.value for m in metrics if m.name == "denoise_mse"]
    if not values:
        raise RunError(f"{other.directory} does not denoise; it offers {', '.join(other.recipe.tasks)}")
    return values[0]


def _reconstruction(
    run: Run, model: nn.Module, reconstruct: Callable[[Tensor], Tensor], *, progress: bool
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


def _latent_statistics(run: Run, model: nn.Module) -> Latent:
    encode = _as_served(run, model, "encode")
    with torch.no_grad():
        chunks = [encode(to_pixels(chunk)) for chunk in torch.split(run.data.train, CHUNK)]
    z: Float[Tensor, "image latent"] = torch.cat(chunks)
    return Latent(dim=z.shape[1], mean=tuple(z.mean(0).tolist()), std=tuple(z.std(0).tolist()))


def _reconstruct_as_served(run: Run, model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """decode(encode(x)); None where there is no latent, or where nothing that is served in int8 computes it."""
    if model.latent_dim is None:
        return None
    if {"encode", "decode"} <= set(run.recipe.tasks):
        encode, decode = _as_served(run, model, "encode"), _as_served(run, model, "decode")
        return lambda x: decode(encode(x))
    if "denoise" in run.recipe.tasks or run.recipe.export.precision == "float32":
        return _as_served(run, model, "denoise")
    return None


def _as_served(run: Run, model: nn.Module, task: Task) -> Callable[[Tensor], Tensor]:
    """The task's graph, or its network where the recipe does not offer the task."""
    return served(run.path(f"{task}.onnx")) if task in run.recipe.tasks else graph_for(task, model)
