"""Compression of photographs as grids of symbols: squared error plus bits, on patches of planes at random rates."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Graph, InputSpec, Metric, Task
from service.contract.plane_coder import clip_grid, pack_grids
from service.contract.tables import CELL, CHANNELS, Compression, RatePoint, Tables, digest_of
from training.architectures.lapped import Compress, Decompress, LappedAutoencoder, reach
from training.card import PICTURE
from training.charts import CURVE
from training.compression.patches import Patches, planes_of
from training.compression.photo_config import PhotoCodecRecipe
from training.compression.tables import CONTEXTS, fit_grid_tables
from training.errors import DataError, TrainingError
from training.export import export_any_size, golden_sample, write_golden
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.manifest import Finished, describe_photos, git_commit
from training.measure.plane_files import QUALITIES, Photo, PlaneCodec, measure_all, served_codec, unaligned
from training.measure.rate import Point, best, draw_curves, lossy_codecs, lossy_curve, size_at
from training.optimisers import build_optimisers
from training.picture import middle, rows_of_images
from training.problems.problem import Places, Problem, say
from training.problems.rows import trade_off
from training.randomness import generator_for, uniform_noise
from training.restoration.photos import Pair, Photos, read_photos
from training.run import MODEL, Run, Sources
from training.trainer import Batch, Job, Network, load_weights

GOLDEN_SEED = 7
GOLDEN_CELLS = 6  # a side
PARITY_SIZES = ((1, 1, 1), (2, 3, 5), (1, 9, 4))  # planes, rows and columns in cells
SHOWN, SHOWN_SIDE = 4, 128  # photographs on the card, and pixels of each
VALIDATION_SIDE = 256  # pixels from the middle of each photograph that was kept back

GridsRun = Run[PhotoCodecRecipe, Photos]


def build_network(recipe: PhotoCodecRecipe) -> LappedAutoencoder:
    """Build the recipe's network: its kernels start as cosines, other weights are initialised from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return LappedAutoencoder(recipe.steps, width=recipe.network.width, depth=recipe.network.depth)


def job(recipe: PhotoCodecRecipe, data: Photos, device: torch.device) -> Job:
    """Return the training job of a recipe.

    Raises:
        TrainingError: All pictures are too small for a patch.
    """
    config = recipe.training
    patches = Patches(data.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {2 * config.patch} pixels a side; lower training.patch")
    network = build_network(recipe).to(device)
    kernels = torch.optim.AdamW([network.analysis, network.synthesis], lr=config.kernel_learning_rate, weight_decay=0.0)
    prior = torch.optim.AdamW([network.weight, network.log_scale], lr=config.prior_learning_rate, weight_decay=0.0)
    lambdas = recipe.price * network.steps.square()
    cells = config.patch // CELL

    def draw(step: int, generator: Generator) -> Batch:
        planes, rate = patches.draw(config.batch_size, generator)
        return to_pixels(planes), rate, uniform_noise((config.batch_size, CHANNELS, cells, cells), generator)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x, rate, noise = batch
        x_hat, bits = network(x, rate, noise)
        return {"trade_off": trade_off(x_hat.float(), x, bits.float(), lambdas[rate])}

    return Job(
        name=recipe.name,
        config=config,
        network=network,
        optimisers=[*build_optimisers(network.refine, config), kernels, prior],
        steps=config.steps,
        look_every=config.validate_every,
        batch_size=config.batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, lambdas),
        shown=lambda value: f"validation {value:.1f}",
        parameters=sum(p.numel() for p in (network.analysis, network.synthesis, *network.refine.parameters())),
        memory_format=torch.contiguous_format,
    )


@torch.no_grad()
def validation_loss(model: nn.Module, pairs: tuple[Pair, ...], lambdas: Float[Tensor, " rate"]) -> float:
    """Return the mean of `trade_off` over the planes of all photographs at every rate, with rounded symbols."""
    losses, rates = [], len(lambdas) // 2
    for pair in pairs:
        for number, plane in enumerate(planes_of(middle(pair.clean, VALIDATION_SIDE))):
            height, width = (side // CELL * CELL for side in plane.shape)
            x = to_pixels(plane[None, None, :height, :width]).to(lambdas.device).expand(rates, -1, -1, -1)
            rate = torch.arange(rates, device=lambdas.device) + (rates if number else 0)
            x_hat, bits = model(x, rate)
            losses.append(trade_off(x_hat, x, bits, lambdas[rate]).item())
    return sum(losses) / len(losses)


def read(recipe: PhotoCodecRecipe, sources: Sources, progress: bool) -> Photos:
    """Read colour photographs from a folder."""
    if sources.data is None:
        raise DataError("which photographs? Give --data FOLDER")
    least = 2 * recipe.training.patch  # chroma has half the size
    config = recipe.data
    return read_photos(
        sources.data, 3, validation=config.validation, test=config.test, least_side=least, progress=progress
    )


def finish(run: GridsRun, places: Places) -> Finished:
    """Export the network, fit its tables on training photographs, and measure real files of the others."""
    recipe, data, directory = run.recipe, run.data, run.path(MODEL)
    network = load_weights(build_network(recipe), run.directory)
    graphs = _export(network, directory)
    codec = served_codec(directory, recipe.rates)
    points = fit_points(codec, [unaligned(pair.clean) for pair in data.train], progress=places.progress)
    held_back = [unaligned(pair.clean) for pair in data.measured[0]]
    measured = measure_all(codec, points, CONTEXTS, held_back, name=run.name, what="measure", progress=places.progress)
    sheets = [photo[None] for photo in held_back]
    curves = {
        label: best(lossy_curve(sheets, write, QUALITIES[label]))
        for label, (write, _) in tqdm(lossy_codecs().items(), desc="beside", disable=not places.progress)
    }
    rates = tuple(
        point.model_copy(update={"bytes_per_image": m.bytes_per_image, "psnr_db": m.psnr_db})
        for point, m in zip(points, measured, strict=True)
    )
    _draw(directory, codec, rates, held_back, {run.name: measured, **curves})
    arrays, payload = _golden(recipe, rates[recipe.default_rate].tables, directory)
    metrics = _metrics(measured, curves, data)
    say(metrics)
    return Finished(
        architecture="lapped",
        tasks=graphs,
        input=InputSpec(
            channels=1, height=None, width=None, multiple_of=CELL, halo=reach(network), resize="reject"
        ),
        golden=write_golden(arrays, directory),
        data=describe_photos(data, recipe.data.licence),
        metrics=metrics,
        commit=git_commit(),
        limits=recipe.limits,
        sections={
            "compression": Compression(
                rates=rates, default_rate=recipe.default_rate, grid=CONTEXTS, tables_sha256=digest_of(rates),
                golden=payload.hex(),
            )
        },
    )  # fmt: skip


GRIDS = Problem(takes=("data",), read=read, summary=lambda data: data.summary, finish=finish, job=job)


def fit_points(codec: PlaneCodec, photos: list[Photo], *, progress: bool) -> list[RatePoint]:
    """Fit the tables of every rate on training photographs; metrics are measured later."""
    points = []
    for rate in tqdm(range(codec.rates), desc="tables", unit="rate", disable=not progress):
        planes = [codec.symbols(photo, rate) for photo in photos]
        luma = fit_grid_tables([of_photo[0] for of_photo in planes], CONTEXTS)
        chroma = fit_grid_tables([plane for of_photo in planes for plane in of_photo[1:]], CONTEXTS)
        points.append(RatePoint(tables=luma, chroma=chroma, images_per_file=1, bytes_per_image=1.0, psnr_db=0.0))
    return points


def _export(network: LappedAutoencoder, directory: Path) -> dict[Task, Graph]:
    graphs: dict[Task, tuple[nn.Module, int]] = {
        "compress": (Compress(network).eval(), CELL),
        "decompress": (Decompress(network).eval(), 1),
    }
    return {
        task: export_any_size(
            task, module, partial(_inputs, task, network), directory, multiple_of=cell, sizes=PARITY_SIZES
        )
        for task, (module, cell) in graphs.items()
    }


@torch.no_grad()
def _inputs(task: Task, network: LappedAutoencoder, planes: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return example inputs of a task's graph: random planes, or their symbols, at several rates."""
    generator = generator_for(GOLDEN_SEED, rows)
    x = torch.rand(planes, 1, rows * CELL, columns * CELL, generator=generator)
    rate = torch.arange(planes, dtype=torch.float32) % len(network.steps)
    return (x, rate) if task == "compress" else (Compress(network)(x, rate).round(), rate)


def _golden(recipe: PhotoCodecRecipe, tables: Tables, directory: Path) -> tuple[dict[str, NDArray[np.float32]], bytes]:
    """Return a golden sample: a smooth plane and one with an edge, their symbols at the default rate, and x_hat.

    Returns:
        The arrays by name, and the symbols as the range coder writes them.
    """
    side = GOLDEN_CELLS * CELL
    ramp = torch.linspace(0.2, 0.8, side)
    x = torch.stack([ramp[:, None].expand(side, side), 0.3 + 0.4 * (ramp[:, None] > ramp[None])])[:, None].contiguous()
    rate = np.full(2, recipe.default_rate, np.float32)
    arrays = golden_sample("compress", directory, x.numpy(), rate)
    symbols = np.stack([clip_grid(plane, tables) for plane in arrays["compress.y"]])
    arrays |= golden_sample("decompress", directory, symbols.astype(np.float32), rate)
    return arrays, pack_grids([(plane, tables) for plane in symbols], CONTEXTS)


def _metrics(points: list[Point], curves: dict[str, list[Point]], photos: Photos) -> tuple[Metric, ...]:
    pairs, part = photos.measured
    sides = sorted(pairs[0].clean.shape[1:], reverse=True)
    on = (
        f"{len(pairs)} {part} photographs of {photos.name} (the first of {sides[0]}x"
        f"{sides[1]}), colour, a file each, header included"
    )
    metrics = []
    for i, point in enumerate(points):
        found = {label: size_at(curve, point.psnr_db) for label, curve in curves.items()}
        metrics.append(
            Metric(
                name=f"rate_{i}", task="compress", value=point.bytes_per_image,
                unit=f"bytes per image at {point.psnr_db:.2f} dB", data=on, higher_is_better=False,
                baselines={f"{label} at that PSNR": size for label, size in found.items() if size is not None},
            )
        )  # fmt: skip
    return tuple(metrics)


def _draw(
    directory: Path, codec: PlaneCodec, rates: tuple[RatePoint, ...], photos: list[Photo],
    curves: dict[str, list[Point]],
) -> None:  # fmt: skip
    shown = [middle(photo, SHOWN_SIDE) for photo in photos[:SHOWN]]
    rows = {"original": _stacked(shown)}
    for rate, point in enumerate(rates):
        drawn = [
            codec.photo(codec.symbols(photo, rate, point.tables_of_planes(3)), (photo.shape[1], photo.shape[2]), rate)
            for photo in shown
        ]
        rows[f"rate {rate}"] = _stacked(drawn)
    with write_atomically(directory / PICTURE) as file:
        file.write(rows_of_images(rows))
    with write_atomically(directory / CURVE) as file:
        file.write(draw_curves(curves, around=curves[next(iter(curves))]))


def _stacked(photos: list[Photo]) -> Tensor:
    return torch.from_numpy(np.stack(photos)).float() / 255.0
