"""Restoration and enlargement of pictures of any size, trained on patches and validated on whole pictures."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from service.contract.manifest import InputSpec
from service.contract.sections import Enhance
from training.architectures.restorer import SIGMA_UNIT, Clamped, Restorer, reach
from training.card import PICTURE
from training.charts import CURVE, lines
from training.errors import DataError, TrainingError
from training.export import export_any_size, golden_sample, write_golden
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.losses import LOSSES
from training.manifest import Finished, describe_photos, git_commit
from training.measure.pictures import SizedGraph, baselines, measure, noisy_pairs
from training.measure.psnr import hidden_error, psnr_db
from training.optimisers import build_optimisers
from training.picture import middle, rows_of_images
from training.problems.problem import Places, Problem, say
from training.randomness import VALIDATION_STEP, generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.level import noise_of
from training.restoration.patches import VALIDATION_SIGMA, Patches, prepare
from training.restoration.photos import Pair, Photos, read_pairs, read_photos
from training.run import MODEL, REPORT, Run, Sources
from training.trainer import Batch, Job, Network, load_weights

GOLDEN_SEED, GOLDEN_SIGMA = 7, 25.0
PARITY_SIZES = ((1, 8, 8), (3, 12, 4), (2, 31, 17))  # images, rows and columns in cells of `multiple_of`
SHOWN, SHOWN_SIDE = 6, 96  # pictures on the card, and pixels of each

PicturesRun = Run[RestorationRecipe, Photos]


def build_network(recipe: RestorationRecipe) -> Restorer:
    """Build the recipe's network, with weights initialised from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return Restorer(
            recipe.data.channels,
            scale=recipe.factor,
            takes_sigma=recipe.takes_sigma,
            widths=recipe.network.widths,
            blocks=recipe.network.blocks,
        )


def job(recipe: RestorationRecipe, data: Photos, device: torch.device) -> Job:
    """Return the training job of a recipe.

    Raises:
        TrainingError: All pictures are too small for a patch.
    """
    config, loss_of = recipe.training, LOSSES[recipe.training.loss]
    patches = Patches(data.train, recipe)
    if not len(patches):
        raise TrainingError(f"no picture has {config.patch * recipe.factor} pixels a side; lower training.patch")
    network = build_network(recipe).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(step: int, generator: Generator) -> Batch:
        batch = patches.draw(generator)
        tensors = (batch.x_in, batch.sigma, batch.x)
        return tensors if batch.mask is None else (*tensors, batch.mask)

    def loss(network: Network, batch: Batch) -> dict[str, Tensor]:
        x_in, sigma, x, *masks = batch
        x_hat = network(x_in, sigma).float()
        if not masks:
            return {config.loss: loss_of(x_hat, x)}
        (mask,) = masks  # the only pixels that are judged
        return {config.loss: loss_of(x_hat * mask, x * mask) / mask.float().mean()}

    return Job(
        name=recipe.name,
        config=config,
        network=network,
        optimisers=build_optimisers(network, config),
        steps=config.steps,
        look_every=config.validate_every,
        batch_size=config.batch_size,
        draw=draw,
        loss=loss,
        validate=lambda average: validation_loss(average, data.validation, recipe, device),
        shown=lambda value: f"validation {psnr_db(value):.2f} dB",
    )


@torch.no_grad()
def validation_loss(model: nn.Module, pairs: Sequence[Pair], recipe: RestorationRecipe, device: torch.device) -> float:
    """Return the mean squared error, averaged over whole pictures.

    Pictures without noise of their own get Gaussian noise of 25, the same at every call. The computation is in float32
    whatever the precision of training. Without clean pictures (`blind`), it is the error of pixels hidden from the
    network, which includes their noise.
    """
    generator = generator_for(recipe.training.seed, VALIDATION_STEP)
    total = 0.0
    for pair in pairs:
        made = prepare(pair, recipe)
        assert made is not None  # noqa: S101  for the type checker: pictures have pixels
        x_in, x = (to_pixels(photo)[None] for photo in made)
        x_in, x = _whole_cells(x_in, x, recipe, model)
        if recipe.kind == "denoise":
            x_in = x_in + torch.randn(x_in.shape, generator=generator) * (VALIDATION_SIGMA / SIGMA_UNIT)
        if recipe.kind == "blind":
            total += hidden_error(lambda x: model(x.to(device), None).cpu(), x, generator)
            continue
        sigma = torch.full((1,), VALIDATION_SIGMA, device=device)
        x_hat = model(x_in.to(device, memory_format=torch.channels_last), sigma).clamp(0.0, 1.0)
        total += F.mse_loss(x_hat, x.to(device)).item()
    return total / len(pairs)


def _whole_cells(x_in: Tensor, x: Tensor, recipe: RestorationRecipe, model: nn.Module) -> tuple[Tensor, Tensor]:
    cell: int = model.multiple_of  # type: ignore[assignment]  # of Restorer
    height, width = (side // cell * cell for side in x_in.shape[2:])
    return x_in[:, :, :height, :width], x[:, :, : height * recipe.factor, : width * recipe.factor]


def read(recipe: RestorationRecipe, sources: Sources, progress: bool) -> Photos:
    """Read pictures from one folder: clean ones that the recipe degrades, or noisy ones."""
    if sources.data is None:
        raise DataError("which photographs? Give --data FOLDER")
    config, least = recipe.data, recipe.training.patch * recipe.factor
    return read_photos(
        sources.data, config.channels, validation=config.validation, test=config.test, least_side=least,
        progress=progress,
    )  # fmt: skip


def read_both(recipe: RestorationRecipe, sources: Sources, progress: bool) -> Photos:
    """Read pairs of pictures with the same names from two folders."""
    if sources.noisy is None or sources.clean is None:
        raise DataError("restore learns from pairs: give --noisy DIR and --clean DIR, same names in both")
    config = recipe.data
    return read_pairs(
        sources.noisy, sources.clean, config.channels, validation=config.validation, test=config.test,
        least_side=recipe.training.patch,
        progress=progress,
    )  # fmt: skip


def finish(run: PicturesRun, places: Places) -> Finished:
    """Export and measure the network, and draw examples and the curve of PSNR over training time, `curve.png`."""
    recipe, data, directory = run.recipe, run.data, run.path(MODEL)
    network = load_weights(build_network(recipe), run.directory)
    cell = network.multiple_of

    def inputs(images: int, rows: int, columns: int) -> tuple[Tensor, ...]:
        generator = generator_for(GOLDEN_SEED, rows * cell)
        x = torch.rand(images, recipe.data.channels, rows * cell, columns * cell, generator=generator)
        return (x, torch.full((images,), GOLDEN_SIGMA)) if recipe.takes_sigma else (x,)

    exported = export_any_size(
        recipe.task, Clamped(network).eval(), inputs, directory, multiple_of=cell, sizes=PARITY_SIZES
    )
    arrays = golden_sample(recipe.task, directory, *(tensor.numpy() for tensor in inputs(1, 8, 8)))
    graph = SizedGraph((directory / exported.file).read_bytes(), cell, recipe.factor)
    noise, lost = noise_of(graph, data, recipe, progress=places.progress) if recipe.takes_sigma else (None, ())
    metrics = (*measure(graph, data, recipe), *lost)
    say(metrics)
    looks = run.read(REPORT, "train")
    if len(looks["history"]) > 1:
        with write_atomically(directory / CURVE) as file:
            file.write(
                lines(
                    {run.name: curve(looks["history"], looks["cpu_s"])},
                    x_label="CPU minutes of training",
                    y_label="validation pictures, dB",
                )
            )
    with write_atomically(directory / PICTURE) as file:
        file.write(_picture(graph, data.measured[0][:SHOWN], recipe))
    is_enhance = recipe.kind == "enhance"
    return Finished(
        architecture="restorer",
        tasks={recipe.task: exported},
        input=InputSpec(
            channels=recipe.data.channels, height=None, width=None, multiple_of=cell, halo=reach(network),
            resize="reject",
        ),
        golden=write_golden(arrays, directory),
        data=describe_photos(data, recipe.data.licence),
        metrics=metrics,
        commit=git_commit(),
        limits=recipe.limits,
        sections={
            "noise": noise,
            "enhance": Enhance(scale=recipe.scale, luma_only=recipe.data.channels == 1) if is_enhance else None,
        },
    )  # fmt: skip


PICTURES = Problem(takes=("data",), read=read, summary=lambda data: data.summary, finish=finish, job=job)
PAIRS = replace(PICTURES, takes=("noisy", "clean"), read=read_both)
ENHANCE = replace(PICTURES, takes=("data", "scale"))


def curve(history: Sequence[dict[str, int | float]], cpu_s: float) -> list[tuple[float, float]]:
    """Return CPU minutes and PSNR of every validation, the last at the end of training."""
    steps = [look.get("step", look["epoch"]) for look in history]  # older reports count the looks alone
    return [
        (cpu_s / 60 * step / steps[-1], psnr_db(max(look["validation_loss"], 1e-10)))
        for step, look in zip(steps, history, strict=True)
    ]


def _picture(graph: SizedGraph, pairs: Sequence[Pair], recipe: RestorationRecipe) -> bytes:
    rows: dict[str, list[Tensor]] = {"clean": [], "input": [], "restored": []}
    side = min(SHOWN_SIDE, *(length // recipe.factor * recipe.factor for p in pairs for length in p.clean.shape[1:]))
    free = baselines(recipe)
    enlarge = free["bicubic"] if recipe.factor > 1 else free["unprocessed"]
    for x_in, x in noisy_pairs(tuple(pairs), recipe, GOLDEN_SIGMA):
        for row, image in zip(rows.values(), (x, enlarge(x_in, 0.0), graph(x_in, GOLDEN_SIGMA)), strict=True):
            row.append(middle(image.clamp(0.0, 1.0), side))
    shown = {label: torch.cat(images) for label, images in rows.items()}
    if recipe.kind == "blind":
        del shown["clean"]  # nobody knows it
    return rows_of_images(shown)
