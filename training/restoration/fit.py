"""From photographs to a published model: train, export, measure, publish. What is done is not done again."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import (
    Enhance,
    Golden,
    Graph,
    InputSpec,
    Manifest,
    Parity,
    TensorSpec,
)
from training.architectures.restorer import Restorer, Served, reach
from training.card import PICTURE
from training.charts import lines
from training.checkpoint import CHECKPOINT
from training.errors import DataError, ExportError
from training.export import GOLDEN_FILE, GOLDEN_TOLERANCE, OPSET, PARITY_TOLERANCE, to_onnx
from training.files import write_atomically
from training.metrics import psnr_db
from training.picture import rows_of_images
from training.problems.pictures import build_network, job
from training.provenance import data_of, provenance_of
from training.publish import discard_folder, git_commit, next_version, publish, write_card_and_manifest
from training.randomness import generator_for
from training.restoration.config import RestorationRecipe
from training.restoration.level import noise_of
from training.restoration.measure import Served as ServedGraph
from training.restoration.measure import baselines, measure, noisy_pairs
from training.restoration.photos import Photos, read_pairs, read_photos
from training.restoration.run import RunFile, start_run
from training.restoration.start import load_start, read_start
from training.run import MODEL, REPORT, RunDirectory
from training.trainer import load_weights, train
from training.verify import verify

CURVE = "curve.png"
GOLDEN_SEED, GOLDEN_SIGMA = 7, 25.0
PARITY_SIZES = ((1, 8, 8), (3, 12, 4), (2, 31, 17))  # images, rows and columns in cells of `multiple_of`
SHOWN, SHOWN_SIDE = 6, 96  # pictures on the card, and pixels of each


@dataclass(frozen=True)
class Sources:
    """Where the pictures are: in one folder, or pairs of the same names in two."""

    data: Path | None = None
    noisy: Path | None = None
    clean: Path | None = None

    def read(self, recipe: RestorationRecipe, *, progress: bool) -> Photos:
        """The pictures that a recipe asks for.

        Raises:
            DataError: A folder is missing, or there is too little in it.
        """
        config, least = recipe.data, recipe.training.patch * recipe.factor
        if recipe.kind == "restore":
            if self.noisy is None or self.clean is None:
                raise DataError("restore learns from pairs: give --noisy DIR and --clean DIR, same names in both")
            return read_pairs(
                self.noisy, self.clean, config.channels, validation=config.validation, least_side=least,
                progress=progress,
            )  # fmt: skip
        if self.data is None:
            raise DataError("which photographs? Give --data FOLDER")
        return read_photos(
            self.data, config.channels, validation=config.validation, least_side=least, progress=progress
        )


@dataclass(frozen=True)
class Where:
    """Directories and the device of a fit."""

    runs: Path
    models: Path
    device: torch.device
    progress: bool
    is_restart: bool = False


def fit(recipe: RestorationRecipe, name: str, sources: Sources, where: Where, *, command: str) -> Path:
    """Make a model and return its directory; a fit that was stopped goes on where it was.

    Raises:
        DataError: The pictures cannot be used.
        RunError: The run's directory belongs to another recipe or other pictures.
        ExportError, VerifyError, PublishError, TrainingError: That stage failed.
    """
    photos = sources.read(recipe, progress=where.progress)
    for reason in photos.skipped[:20]:
        tqdm.write(f"skipped {reason}")
    start = read_start(recipe.training.start_from) if recipe.training.start_from else None
    begun = RunFile(name=name, recipe=recipe, data_sha256=photos.sha256, start=start, command=command)
    run = start_run(where.runs / name, begun, is_restart=where.is_restart)
    if not run.path(REPORT).exists():
        work = job(recipe, photos, where.device)
        if recipe.training.start_from and not run.path(CHECKPOINT).exists():
            load_start(work.network, recipe.training.start_from)
        report = train(work, run_dir=run.directory, device=where.device, progress=where.progress)
        device = torch.cuda.get_device_name(where.device) if where.device.type == "cuda" else "CPU"
        run.write(REPORT, {**asdict(report), "device": device})
    network = load_weights(build_network(recipe), run.directory)
    directory = run.path(MODEL)
    discard_folder(directory)
    graph, content = _export(network, recipe, directory)
    manifest = _manifest(run, recipe, begun, photos, network, graph, content, where)
    _draw_curve(run, directory)
    _golden_and_picture(directory, content, recipe, photos, network)
    sha256 = hashlib.sha256((directory / GOLDEN_FILE).read_bytes()).hexdigest()
    golden = Golden(file=GOLDEN_FILE, sha256=sha256, tolerance=GOLDEN_TOLERANCE)
    write_card_and_manifest(directory, manifest.model_copy(update={"golden": golden}))
    verify(directory)
    for metric in manifest.metrics:
        beside = ", ".join(f"{b} {value:.2f}" for b, value in metric.baselines.items())
        tqdm.write(f"{metric.name} {metric.value:.2f}  (beside: {beside})")
    target = publish(run, where.models)
    verify(target)
    tqdm.write(f"published {target}")
    return target


def _export(network: Restorer, recipe: RestorationRecipe, directory: Path) -> tuple[Graph, bytes]:
    served, cell = Served(network).eval(), network.multiple_of
    names = ["x", "sigma"] if recipe.takes_sigma else ["x"]
    content = to_onnx(served, _inputs(recipe, 2, 8 * cell, 6 * cell), names, ["x_hat"], multiple_of=cell)
    graph = ServedGraph(content, cell, recipe.factor)
    worst = 0.0
    for images, rows, columns in PARITY_SIZES:
        x, *sigma = _inputs(recipe, images, rows * cell, columns * cell)
        with torch.no_grad():
            expected = served(x, *sigma)
        answers = torch.cat([graph(row[None], GOLDEN_SIGMA) for row in x])
        worst = max(worst, float((answers - expected).abs().max()))
    if not worst <= PARITY_TOLERANCE:
        raise ExportError(f"{recipe.task}.onnx: onnxruntime and PyTorch differ by {worst:.2e}, at most 1e-4 is allowed")
    path = directory / f"{recipe.task}.onnx"
    with write_atomically(path) as file:
        file.write(content)
    specs = [
        tuple(TensorSpec(name=t.name, dtype="float32", shape=tuple(t.shape)) for t in tensors)
        for tensors in (graph.session.get_inputs(), graph.session.get_outputs())
    ]
    parity = Parity(max_abs_diff=worst, tolerance=PARITY_TOLERANCE)
    sha256 = hashlib.sha256(content).hexdigest()
    return Graph(file=path.name, sha256=sha256, opset=OPSET, inputs=specs[0], outputs=specs[1], parity=parity), content


def _inputs(recipe: RestorationRecipe, images: int, height: int, width: int) -> tuple[Tensor, ...]:
    x = torch.rand(images, recipe.data.channels, height, width, generator=generator_for(GOLDEN_SEED, height))
    return (x, torch.full((images,), GOLDEN_SIGMA)) if recipe.takes_sigma else (x,)


def _manifest(  # noqa: PLR0917  what all stages have found
    run: RunDirectory,
    recipe: RestorationRecipe,
    begun: RunFile,
    photos: Photos,
    network: Restorer,
    graph: Graph,
    content: bytes,
    where: Where,
) -> Manifest:
    report = run.read(REPORT, "fit")
    served = ServedGraph(content, network.multiple_of, recipe.factor)
    is_luma = recipe.kind == "enhance" and recipe.data.channels == 1
    noise, lost = noise_of(served, photos, recipe, progress=where.progress) if recipe.takes_sigma else (None, ())
    return Manifest(
        name=run.name,
        version=next_version(where.models / run.name),
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture="restorer",
        default_for=recipe.default_for,
        tasks={recipe.task: graph},
        input=InputSpec(
            channels=recipe.data.channels, height=None, width=None, multiple_of=network.multiple_of,
            halo=reach(network), resize="reject",
        ),
        latent=None,
        anomaly=None,
        noise=noise,
        enhance=Enhance(scale=recipe.scale, luma_only=is_luma) if recipe.kind == "enhance" else None,
        golden=Golden(file=GOLDEN_FILE, sha256="0" * 64, tolerance=GOLDEN_TOLERANCE),
        metrics=(*measure(served, photos.validation, recipe, photos.name), *lost),
        provenance=provenance_of(
            recipe, report, data_of(photos, recipe.data.licence), command=begun.command, commit=git_commit(),
            start=begun.start,
        ),
        limits=recipe.limits,
    )  # fmt: skip


def _draw_curve(run: RunDirectory, directory: Path) -> None:
    """What an hour of training buys: the validation figure of every look at it, over the CPU time so far."""
    report = run.read(REPORT, "fit")
    looks = report["history"]
    if len(looks) < 2:
        return
    with write_atomically(directory / CURVE) as file:
        file.write(
            lines(
                {run.name: curve(looks, report["cpu_s"])},
                x_label="CPU minutes of training",
                y_label="pictures kept out of training, dB",
            )
        )


def curve(history: Sequence[dict[str, int | float]], cpu_s: float) -> list[tuple[float, float]]:
    """CPU minutes and PSNR of every look at the validation pictures; the last one ends the training."""
    steps = [look.get("step", look["epoch"]) for look in history]  # older reports count the looks alone
    return [
        (cpu_s / 60 * step / steps[-1], psnr_db(max(look["validation_loss"], 1e-10)))
        for step, look in zip(steps, history, strict=True)
    ]


def _golden_and_picture(
    directory: Path, content: bytes, recipe: RestorationRecipe, photos: Photos, network: Restorer
) -> None:
    graph = ServedGraph(content, network.multiple_of, recipe.factor)
    side = 8 * network.multiple_of
    x, *sigma = _inputs(recipe, 1, side, side)
    arrays = {f"{recipe.task}.x": x.numpy(), f"{recipe.task}.x_hat": graph(x, GOLDEN_SIGMA).numpy()}
    if sigma:
        arrays[f"{recipe.task}.sigma"] = sigma[0].numpy()
    with write_atomically(directory / GOLDEN_FILE) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    rows: dict[str, list[Tensor]] = {"clean": [], "input": [], "restored": []}
    sides = [side for pair in photos.validation[:SHOWN] for side in pair.clean.shape[1:]]
    shown_side = min(SHOWN_SIDE, min(sides) // recipe.factor * recipe.factor)
    free = baselines(recipe)
    enlarge = free["bicubic"] if recipe.factor > 1 else free["as it comes"]
    for x_in, x in noisy_pairs(photos.validation[:SHOWN], recipe, GOLDEN_SIGMA):
        shown = (x, enlarge(x_in, 0.0), graph(x_in, GOLDEN_SIGMA))
        for row, image in zip(rows.values(), shown, strict=True):
            row.append(_middle(image.clamp(0.0, 1.0), shown_side))
    with write_atomically(directory / PICTURE) as file:
        shown_rows = {label: torch.cat(images) for label, images in rows.items()}
        if recipe.kind == "blind":
            del shown_rows["clean"]  # nobody knows it
        file.write(rows_of_images(shown_rows))


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = ((whole - side) // 2 for whole in image.shape[2:])
    return image[:, :, top : top + side, left : left + side]
