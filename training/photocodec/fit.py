"""From photographs to a published model that compresses them; what is done is not done again."""

import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Golden, Graph, InputSpec, Manifest, Metric, Parity, Task
from service.contract.plane_coder import clip_grid, pack_grids
from service.contract.tables import CELL, Compression, RatePoint, Tables, digest_of
from training.card import PICTURE
from training.compression.classical import Point, best, lossy_codecs, lossy_curve, size_at
from training.compression.fit import CURVE, draw_curves
from training.errors import DataError, ExportError
from training.export import GOLDEN_FILE, GOLDEN_TOLERANCE, PARITY_TOLERANCE, describe, run_graph, to_onnx
from training.files import write_atomically
from training.photocodec.config import PhotoCodecRecipe
from training.photocodec.measure import QUALITIES, Photo, PlaneCodec, measure_all, served_codec, unaligned
from training.photocodec.network import Compress, Decompress, LappedAutoencoder, reach
from training.photocodec.tables import CONTEXTS, fit_grid_tables
from training.picture import rows_of_images
from training.problems.grids import build_network, job
from training.provenance import data_of, provenance_of
from training.publish import discard_folder, git_commit, next_version, publish, write_card_and_manifest
from training.randomness import generator_for
from training.restoration.fit import Where
from training.restoration.photos import Photos, read_photos
from training.restoration.run import RunFile, start_run
from training.run import MODEL, REPORT, RunDirectory
from training.trainer import load_weights, train
from training.verify import verify

GOLDEN_SEED = 7
GOLDEN_CELLS = 6  # a side
PARITY_SIZES = ((1, 1, 1), (2, 3, 5), (1, 9, 4))  # planes, rows and columns in cells
SHOWN, SHOWN_SIDE = 4, 128  # photographs on the card, and pixels of each


def fit(recipe: PhotoCodecRecipe, name: str, data: Path | None, where: Where, *, command: str) -> Path:
    """Make a model and return its directory; a fit that was stopped goes on where it was.

    Raises:
        DataError: The pictures cannot be used.
        RunError: The run's directory belongs to another recipe or other pictures.
        ExportError, VerifyError, PublishError, TrainingError: That stage failed.
    """
    if data is None:
        raise DataError("which photographs? Give --data FOLDER")
    least = 2 * recipe.training.patch  # chroma has half the size
    photos = read_photos(data, 3, validation=recipe.data.validation, least_side=least, progress=where.progress)
    for reason in photos.skipped[:20]:
        tqdm.write(f"skipped {reason}")
    begun = RunFile(name=name, recipe=recipe, data_sha256=photos.sha256, command=command)
    run = start_run(where.runs / name, begun, is_restart=where.is_restart)
    if not run.path(REPORT).exists():
        report = train(
            job(recipe, photos, where.device), run_dir=run.directory, device=where.device, progress=where.progress
        )
        device = torch.cuda.get_device_name(where.device) if where.device.type == "cuda" else "CPU"
        run.write(REPORT, {**asdict(report), "device": device})
    network = load_weights(build_network(recipe), run.directory)
    directory = run.path(MODEL)
    discard_folder(directory)
    manifest = _make(network, recipe, begun, photos, run, where)
    write_card_and_manifest(directory, manifest)
    verify(directory)
    for metric in manifest.metrics:
        beside = ", ".join(f"{b} {value:.0f}" for b, value in metric.baselines.items())
        tqdm.write(f"{metric.name}: {metric.value:.0f} {metric.unit}  (beside: {beside})")
    target = publish(run, where.models)
    verify(target)
    tqdm.write(f"published {target}")
    return target


def _make(  # noqa: PLR0917  what all stages have found
    network: LappedAutoencoder,
    recipe: PhotoCodecRecipe,
    begun: RunFile,
    photos: Photos,
    run: RunDirectory,
    where: Where,
) -> Manifest:
    """Everything of a version but its card and manifest, in the run's `model/`; and that manifest."""
    directory, report = run.path(MODEL), run.read(REPORT, "fit")
    graphs = _export(network, directory)
    codec = served_codec(directory, recipe.rates)
    points = fit_points(codec, [unaligned(pair.clean) for pair in photos.train], progress=where.progress)
    held_back = [unaligned(pair.clean) for pair in photos.validation]
    measured = measure_all(codec, points, CONTEXTS, held_back, name=run.name, what="measure", progress=where.progress)
    sheets = [photo[None] for photo in held_back]
    curves = {
        label: best(lossy_curve(sheets, write, QUALITIES[label]))
        for label, (write, _) in tqdm(lossy_codecs().items(), desc="beside", disable=not where.progress)
    }
    rates = tuple(
        point.model_copy(update={"bytes_per_image": m.bytes_per_image, "psnr_db": m.psnr_db})
        for point, m in zip(points, measured, strict=True)
    )
    _draw(directory, codec, rates, held_back, {run.name: measured, **curves})
    golden = _golden(recipe, rates[recipe.default_rate].tables, directory)
    sha256 = hashlib.sha256((directory / GOLDEN_FILE).read_bytes()).hexdigest()
    return Manifest(
        name=run.name,
        version=next_version(where.models / run.name),
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture="lapped",
        default_for=recipe.default_for,
        tasks=graphs,
        input=InputSpec(
            channels=1, height=None, width=None, multiple_of=CELL, halo=reach(network), resize="reject"
        ),
        latent=None,
        anomaly=None,
        compression=Compression(
            rates=rates, default_rate=recipe.default_rate, grid=CONTEXTS, tables_sha256=digest_of(rates),
            golden=golden.hex(),
        ),
        golden=Golden(file=GOLDEN_FILE, sha256=sha256, tolerance=GOLDEN_TOLERANCE),
        metrics=_metrics(measured, curves, photos),
        provenance=provenance_of(
            recipe, report, data_of(photos, recipe.data.licence), command=begun.command, commit=git_commit()
        ),
        limits=recipe.limits,
    )  # fmt: skip


def fit_points(codec: PlaneCodec, photos: list[Photo], *, progress: bool) -> list[RatePoint]:
    """The tables of training photographs at every rate; figures are still to be measured."""
    points = []
    for rate in tqdm(range(codec.rates), desc="tables", unit="rate", disable=not progress):
        planes = [codec.symbols(photo, rate) for photo in photos]
        luma = fit_grid_tables([of_photo[0] for of_photo in planes], CONTEXTS)
        chroma = fit_grid_tables([plane for of_photo in planes for plane in of_photo[1:]], CONTEXTS)
        points.append(RatePoint(tables=luma, chroma=chroma, images_per_file=1, bytes_per_image=1.0, psnr_db=0.0))
    return points


def _export(network: LappedAutoencoder, directory: Path) -> dict[Task, Graph]:
    graphs: dict[Task, tuple[nn.Module, list[str], int]] = {
        "compress": (Compress(network).eval(), ["x", "rate"], CELL),
        "decompress": (Decompress(network).eval(), ["symbols", "rate"], 1),
    }
    described: dict[Task, Graph] = {}
    for task, (module, names, cell) in graphs.items():
        output = "y" if task == "compress" else "x_hat"
        example = _inputs(task, network, 2, 8, 6)
        content = to_onnx(module, example, names, [output], multiple_of=cell)
        path = directory / f"{task}.onnx"
        with write_atomically(path) as file:
            file.write(content)
        worst = 0.0
        for planes, rows, columns in PARITY_SIZES:
            inputs = _inputs(task, network, planes, rows, columns)
            with torch.no_grad():
                expected = module(*inputs).numpy()
            (answer,) = run_graph(path, *(tensor.numpy() for tensor in inputs))
            worst = max(worst, float((np.abs(answer - expected) / np.maximum(1.0, np.abs(expected))).max()))
        if not worst <= PARITY_TOLERANCE:
            raise ExportError(f"{path.name}: onnxruntime and PyTorch differ by {worst:.2e}, at most 1e-4 is allowed")
        described[task] = describe(path, content, task, Parity(max_abs_diff=worst, tolerance=PARITY_TOLERANCE))
    return described


@torch.no_grad()
def _inputs(task: Task, network: LappedAutoencoder, planes: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Random planes, or the symbols of such, at several rates."""
    generator = generator_for(GOLDEN_SEED, rows)
    x = torch.rand(planes, 1, rows * CELL, columns * CELL, generator=generator)
    rate = torch.arange(planes, dtype=torch.float32) % len(network.steps)
    return (x, rate) if task == "compress" else (Compress(network)(x, rate).round(), rate)


def _golden(recipe: PhotoCodecRecipe, tables: Tables, directory: Path) -> bytes:
    """Writes a smooth plane and one with an edge, their symbols at the default rate and what is drawn of those.

    Returns: Those symbols as the range coder writes them.
    """
    side = GOLDEN_CELLS * CELL
    ramp = torch.linspace(0.2, 0.8, side)
    x = torch.stack([ramp[:, None].expand(side, side), 0.3 + 0.4 * (ramp[:, None] > ramp[None])])[:, None].contiguous()
    rate = torch.full((2,), float(recipe.default_rate))
    (y,) = run_graph(directory / "compress.onnx", x.numpy(), rate.numpy())
    symbols = np.stack([clip_grid(plane, tables) for plane in y])
    (x_hat,) = run_graph(directory / "decompress.onnx", symbols.astype(np.float32), rate.numpy())
    arrays = {
        "compress.x": x.numpy(), "compress.rate": rate.numpy(), "compress.y": y,
        "decompress.symbols": symbols.astype(np.float32), "decompress.rate": rate.numpy(), "decompress.x_hat": x_hat,
    }  # fmt: skip
    with write_atomically(directory / GOLDEN_FILE) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return pack_grids([(plane, tables) for plane in symbols], CONTEXTS)


def _metrics(points: list[Point], curves: dict[str, list[Point]], photos: Photos) -> tuple[Metric, ...]:
    sides = sorted(photos.validation[0].clean.shape[1:], reverse=True)
    on = (
        f"{len(photos.validation)} validation photographs of {photos.name} (the first of {sides[0]}x"
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
    shown = [_middle(photo) for photo in photos[:SHOWN]]
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


def _middle(photo: Photo) -> Photo:
    top, left = (max(0, (side - SHOWN_SIDE) // 2) for side in photo.shape[1:])
    return photo[:, top : top + SHOWN_SIDE, left : left + SHOWN_SIDE]


def _stacked(photos: list[Photo]) -> Tensor:
    return torch.from_numpy(np.stack(photos)).float() / 255.0
