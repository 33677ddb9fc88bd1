"""Compression of images of one size as rows of symbols: squared error plus bits, at a random rate per image."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from tqdm import tqdm

from service.contract.manifest import InputSpec, Metric, Task
from service.contract.range_coder import pack_symbols, to_symbols
from service.contract.tables import Compression, RatePoint, SymbolTable, digest_of
from training.architectures.codec import Codec, Compress, Decompress, build_codec
from training.card import PICTURE
from training.charts import CURVE
from training.compression.config import CompressionRecipe
from training.compression.tables import fit_tables
from training.export import GOLDEN_FILE, GOLDEN_IMAGES, export_graphs
from training.files import write_atomically
from training.images.dataset import Dataset, Images, load_data
from training.images.pixels import to_bytes, to_pixels
from training.manifest import Finished, describe_data, git_commit
from training.measure.rate import Point, draw_curves, lossless_size, lossy_codecs, lossy_curve, size_at
from training.measure.row_files import Images as Pixels
from training.measure.row_files import ServedCodec, measure_all
from training.optimisers import build_optimisers
from training.picture import rows_of_images
from training.problems.problem import Places, Problem, say
from training.randomness import epoch_order, uniform_noise
from training.run import MODEL, Run, Sources
from training.trainer import Batch, Job, Network, load_weights

EXAMPLES = 16  # real images that graphs are compared with PyTorch on
SHOWN = 12  # images on the card
VALIDATION_BATCH = 500
# An image counts (error + lambda * bits) / lambda**0.7: by lambda itself small ones would rule, undivided large ones.
BALANCE = 0.7

RowsRun = Run[CompressionRecipe, Dataset]


def job(recipe: CompressionRecipe, data: Dataset, device: torch.device) -> Job:
    """Return the training job of a recipe.

    Raises:
        RecipeError: The architecture is unknown, or has no latent.
    """
    config = recipe.training
    codec = build_codec(recipe).to(device)
    prior = torch.optim.AdamW(codec.prior, lr=config.prior_learning_rate, weight_decay=0.0)
    gains = torch.optim.AdamW([codec.log_gain], lr=config.learning_rate, weight_decay=0.0)
    lambdas = torch.tensor(recipe.lambdas, device=device)
    batch_size = min(config.batch_size, len(data.train))
    steps_per_epoch = len(data.train) // batch_size

    def draw(step: int, generator: Generator) -> Batch:
        epoch, at = divmod(step, steps_per_epoch)
        order = epoch_order(len(data.train), config.seed, epoch)
        x = to_pixels(data.train[order[at * batch_size : (at + 1) * batch_size]])
        rate = torch.randint(len(lambdas), (len(x),), generator=generator)
        return x, rate, uniform_noise((len(x), codec.log_gain.shape[1]), generator)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x, rate, noise = batch
        x_hat, bits = network(x, rate, noise)
        return {"trade_off": trade_off(x_hat, x, bits, lambdas[rate])}

    return Job(
        name=recipe.name,
        config=config,
        network=codec,
        optimisers=[*build_optimisers(codec.autoencoder, config), gains, prior],
        steps=config.epochs * steps_per_epoch,
        look_every=steps_per_epoch,
        batch_size=batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, lambdas),
        shown=lambda value: f"validation {value:.2f}",
        parameters=sum(p.numel() for p in codec.autoencoder.parameters()) + codec.log_gain.numel(),
        memory_format=torch.contiguous_format,
    )


def trade_off(
    x_hat: Float[Tensor, "batch channel height width"],
    x: Float[Tensor, "batch channel height width"],
    bits: Float[Tensor, " batch"],
    lambdas: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Return squared error plus lambda times bits, averaged over images, with about the same weight for each rate."""
    error = (x_hat - x).square().flatten(1).sum(1)
    return ((error + lambdas * bits) / lambdas.pow(BALANCE)).mean()


@torch.no_grad()
def validation_loss(codec: nn.Module, images: Images, lambdas: Float[Tensor, " rate"]) -> float:
    """Return the mean of `trade_off` over all images at every rate, with rounded symbols."""
    total = 0.0
    for chunk in torch.split(images, VALIDATION_BATCH):
        x = to_pixels(chunk).to(lambdas.device)
        for i in range(len(lambdas)):
            rate: Int64[Tensor, " batch"] = torch.full((len(x),), i, device=lambdas.device)
            x_hat, bits = codec(x, rate)
            total += trade_off(x_hat, x, bits, lambdas[rate]).item() * len(x)
    return total / (len(images) * len(lambdas))


def read(recipe: CompressionRecipe, sources: Sources, progress: bool) -> Dataset:
    """Read the images of the recipe."""
    return load_data(recipe.data, sources.data, seed=recipe.training.seed, progress=progress)


def finish(run: RowsRun, places: Places) -> Finished:
    """Export the codec, fit its tables on training images, and measure real files of the test images."""
    recipe, data, directory = run.recipe, run.data, run.path(MODEL)
    codec = load_weights(build_codec(recipe), run.directory)
    graphs, golden = export_graphs(*_graphs_and_examples(codec, recipe, data), directory)
    served = ServedCodec(directory)
    tables = _tables(served, recipe, data, progress=places.progress)
    compression = _compression(served, recipe, tables, directory)
    x: Pixels = to_pixels(data.test).numpy()
    count = recipe.images_per_file
    points = measure_all(run.name, served, compression, x, images_per_file=count, progress=places.progress)
    sheets = [to_bytes(data.test[start : start + count]).numpy() for start in range(0, len(data.test), count)]
    curves = {
        label: lossy_curve(sheets, write, qualities)
        for label, (write, qualities) in tqdm(lossy_codecs().items(), desc="beside", disable=not places.progress)
    }
    rates = tuple(
        RatePoint(
            tables=point_tables, images_per_file=count, bytes_per_image=point.bytes_per_image, psnr_db=point.psnr_db
        )
        for point_tables, point in zip(tables, points, strict=True)
    )
    _draw(directory, served, compression, data, {run.name: points, **curves})
    metrics = _metrics(points, curves, lossless_size(sheets), data, count)
    say(metrics)
    return Finished(
        architecture=recipe.architecture.name,
        tasks=graphs,
        input=InputSpec(**recipe.data.model_dump(include={"channels", "height", "width", "resize"})),
        golden=golden,
        data=describe_data(
            name=data.name, source=data.source, licence=data.licence, sha256=data.sha256, split=data.split
        ),
        metrics=metrics,
        commit=git_commit(),
        limits=recipe.limits,
        sections={"compression": compression.model_copy(update={"rates": rates})},
    )


def _check(recipe: CompressionRecipe) -> None:
    build_codec(recipe)


ROWS = Problem(
    takes=("data",),
    read=read,
    summary=lambda data: data.summary,
    finish=finish,
    job=job,
    check=_check,
)


@torch.no_grad()
def _graphs_and_examples(
    codec: Codec, recipe: CompressionRecipe, data: Dataset
) -> tuple[dict[Task, torch.nn.Module], dict[Task, tuple[Tensor, ...]]]:
    compress, decompress = Compress(codec).eval(), Decompress(codec).eval()
    x = to_pixels(data.test[:EXAMPLES])
    x = x.repeat(-(-EXAMPLES // len(x)), 1, 1, 1)[:EXAMPLES]  # very small data sets have fewer test images
    rate = torch.arange(EXAMPLES, dtype=torch.float32) % codec.rates
    rate[:GOLDEN_IMAGES] = recipe.default_rate  # the golden sample is written with the tables of one rate
    symbols = compress(x, rate).round()
    return {"compress": compress, "decompress": decompress}, {"compress": (x, rate), "decompress": (symbols, rate)}


def _tables(
    served: ServedCodec, recipe: CompressionRecipe, data: Dataset, *, progress: bool
) -> list[tuple[SymbolTable, ...]]:
    x: Pixels = to_pixels(data.train).numpy()
    rates = range(len(recipe.lambdas))
    return [
        fit_tables(np.rint(served.latents(x, rate)).astype(np.int32))
        for rate in tqdm(rates, desc="tables", unit="rate", disable=not progress)
    ]


def _compression(
    served: ServedCodec, recipe: CompressionRecipe, tables: list[tuple[SymbolTable, ...]], directory: Path
) -> Compression:
    """Return tables and golden sample, with placeholders for the metrics."""
    unknown = tuple(
        RatePoint(tables=t, images_per_file=recipe.images_per_file, bytes_per_image=1.0, psnr_db=0.0) for t in tables
    )
    own = tables[recipe.default_rate]
    with np.load(directory / GOLDEN_FILE, allow_pickle=False) as arrays:
        symbols = to_symbols(arrays["decompress.symbols"], own)
    return Compression(
        rates=unknown,
        default_rate=recipe.default_rate,
        tables_sha256=digest_of(unknown),
        golden=pack_symbols(symbols, own).hex(),
    )


def _metrics(
    points: list[Point], curves: dict[str, list[Point]], lossless: float, data: Dataset, count: int
) -> tuple[Metric, ...]:
    on = f"{len(data.test)} test images of {data.name}, {count} in a file, header included"
    metrics = []
    for i, point in enumerate(points):
        found = {label: size_at(curve, point.psnr_db) for label, curve in curves.items()}
        beside = {f"{label} at that PSNR": size for label, size in found.items() if size is not None}
        metrics.append(
            Metric(
                name=f"rate_{i}", task="compress", value=point.bytes_per_image,
                unit=f"bytes per image at {point.psnr_db:.2f} dB", data=on, higher_is_better=False,
                baselines={**beside, "PNG, lossless": lossless},
            )
        )  # fmt: skip
    return tuple(metrics)


def _draw(
    directory: Path, served: ServedCodec, compression: Compression, data: Dataset, curves: dict[str, list[Point]]
) -> None:
    x: Pixels = to_pixels(data.test[:SHOWN]).numpy()
    rows = {"original": torch.from_numpy(x)}
    for rate, point in enumerate(compression.rates):
        symbols = to_symbols(served.latents(x, rate), point.tables)
        rows[f"rate {rate}"] = torch.from_numpy(served.images(symbols, rate))
    with write_atomically(directory / PICTURE) as file:
        file.write(rows_of_images(rows))
    with write_atomically(directory / CURVE) as file:
        file.write(draw_curves(curves, around=curves[next(iter(curves))]))
