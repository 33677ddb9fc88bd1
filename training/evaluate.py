"""Figures on the test images, which nothing else ever sees, each beside what costs nothing."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from service.manifest import Latent, Metric
from training.baselines import LARGEST_LINEAR, denoising_baselines, reduced_rank_regression
from training.graphs import graph_for
from training.loop import load_weights, to_pixels
from training.metrics import CHUNK, mean_squared_error, psnr_db
from training.run import EVALUATION, Run


def evaluate(run: Run, beside: tuple[Run, ...] = (), *, progress: bool = True) -> None:
    """Measure the trained network and keep its metrics and the statistics of its latents in `evaluation.json`.

    Args:
        run: A trained run.
        beside: Other evaluated runs on the same images; their denoising error becomes a baseline.
        progress: Show bars.
    """
    model = load_weights(run.recipe, run.directory)
    metrics: list[Metric] = []
    if "denoise" in run.recipe.tasks:
        metrics += _denoising(run, model, beside, progress=progress)
    if model.latent_dim is not None:
        metrics += _reconstruction(run, model, progress=progress)
    latent = _latent_statistics(model, run.data.train) if model.latent_dim is not None else None
    content = {"metrics": [m.model_dump() for m in metrics], "latent": latent.model_dump() if latent else None}
    run.write(EVALUATION, content)


def _denoising(run: Run, model: nn.Module, beside: tuple[Run, ...], *, progress: bool) -> list[Metric]:
    data, corruption = run.data, run.recipe.corruption
    denoiser = graph_for("denoise", model)
    mse = mean_squared_error(denoiser, data.test, corruption)
    rank = model.latent_dim if isinstance(model.latent_dim, int) else None
    functions = denoising_baselines(data.train, corruption, rank, progress=progress)
    baselines = {name: mean_squared_error(f, data.test, corruption) for name, f in functions.items()}
    for other in beside:
        if (
            other.data.sha256 == data.sha256
            and other.recipe.corruption.model_copy(update={"clean_share": corruption.clean_share}) == corruption
        ):
            found = (Metric.model_validate(m) for m in other.read(EVALUATION, "evaluate")["metrics"])
            baselines |= {f"recipe {other.recipe.name}": m.value for m in found if m.name == "denoise_mse"}
    options = ", ".join(f"{k} {v}" for k, v in corruption.options.items())
    on = f"{len(data.test)} test images of {data.name}, fixed {corruption.name} noise ({options or 'defaults'})"
    return [
        Metric(
            name="denoise_mse", task="denoise", value=mse, unit="mse", data=on, higher_is_better=False,
            baselines=baselines,
        ),
        Metric(
            name="denoise_psnr_db", task="denoise", value=psnr_db(mse), unit="dB of the mean mse", data=on,
            higher_is_better=True, baselines={name: psnr_db(value) for name, value in baselines.items()},
        ),
    ]  # fmt: skip


def _reconstruction(run: Run, model: nn.Module, *, progress: bool) -> list[Metric]:
    data, rank = run.data, model.latent_dim
    assert isinstance(rank, int)  # noqa: S101 - the caller looked
    mean = torch.stack([to_pixels(c).sum(0) for c in torch.split(data.train, CHUNK)]).sum(0) / len(data.train)
    baselines = {"mean image": mean_squared_error(mean.expand_as, data.test, None)}
    if data.train[0].numel() <= LARGEST_LINEAR:
        pca = reduced_rank_regression(data.train, None, rank, progress=progress)
        baselines[f"PCA of {rank} components"] = mean_squared_error(pca, data.test, None)
    mse = mean_squared_error(graph_for("denoise", model), data.test, None)
    on = f"{len(data.test)} clean test images of {data.name}"
    return [
        Metric(
            name="reconstruct_mse", task="decode", value=mse, unit="mse", data=on, higher_is_better=False,
            baselines=baselines,
        )
    ]  # fmt: skip


@torch.no_grad()
def _latent_statistics(model: nn.Module, images: UInt8[Tensor, "image channel height width"]) -> Latent:
    encoder = graph_for("encode", model)
    z: Float[Tensor, "image latent"] = torch.cat([encoder(to_pixels(c)) for c in torch.split(images, CHUNK)])
    return Latent(dim=z.shape[1], mean=tuple(z.mean(0).tolist()), std=tuple(z.std(0).tolist()))
