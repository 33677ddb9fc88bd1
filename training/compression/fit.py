"""From images to a published model that compresses: train, export, tables, measure, publish; goes on after a stop."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import Data, InputSpec, Manifest, Metric, Split, Task
from service.contract.range_coder import pack_symbols, to_symbols
from service.contract.tables import Compression, RatePoint, SymbolTable, digest_of
from training.card import PICTURE
from training.charts import lines
from training.compression.classical import Point, lossless_size, lossy_codecs, lossy_curve, size_at
from training.compression.codec import Codec, Compress, Decompress, build_codec
from training.compression.config import CompressionRecipe
from training.compression.measure import Images, ServedCodec, measure_all
from training.compression.tables import fit_tables
from training.data import Dataset, load_data
from training.errors import RunError
from training.export import GOLDEN_FILE, GOLDEN_IMAGES, export_graphs
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.picture import rows_of_images
from training.problems.rows import job
from training.provenance import provenance_of
from training.publish import discard_folder, git_commit, next_version, publish, write_card_and_manifest
from training.restoration.fit import Where
from training.run import MODEL, REPORT, RUN_FILE, SHOWN_FIELDS, RunDirectory, differences, discard
from training.trainer import load_weights, train
from training.verify import verify

CURVE = "curve.png"
EXAMPLES = 16  # real images that graphs are compared with PyTorch on
SHOWN = 12  # images on the card


class _RunFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: CompressionRecipe
    data_sha256: str
    command: str


def fit(recipe: CompressionRecipe, name: str, data_path: Path | None, where: Where, *, command: str) -> Path:
    """Make a model and return its directory; a fit that was stopped goes on where it was.

    Raises:
        DataError: The images cannot be used.
        RunError: The run's directory belongs to another recipe or other images.
        ExportError, VerifyError, PublishError, TrainingError: That stage failed.
    """
    data = load_data(recipe.data, data_path, seed=recipe.training.seed, progress=where.progress)
    run = RunDirectory(where.runs / name, name)
    _start(run, _RunFile(name=name, recipe=recipe, data_sha256=data.sha256, command=command), where)
    if not run.path(REPORT).exists():
        report = train(
            job(recipe, data, where.device), run_dir=run.directory, device=where.device, progress=where.progress
        )
        device = torch.cuda.get_device_name(where.device) if where.device.type == "cuda" else "CPU"
        run.write(REPORT, {**asdict(report), "device": device})
    codec = load_weights(build_codec(recipe), run.directory)
    directory = run.path(MODEL)
    discard_folder(directory)
    manifest = _make(codec, recipe, data, run, where)
    write_card_and_manifest(directory, manifest)
    verify(directory)
    for metric in manifest.metrics:
        beside = ", ".join(f"{b} {value:.1f}" for b, value in metric.baselines.items())
        tqdm.write(f"{metric.name}: {metric.value:.2f} {metric.unit}  (beside: {beside})")
    target = publish(run, where.models)
    verify(target)
    tqdm.write(f"published {target}")
    return target


def _start(run: RunDirectory, new: _RunFile, where: Where) -> None:
    if where.is_restart:
        discard(run.directory)
    if run.path(RUN_FILE).exists():
        try:
            old = _RunFile.model_validate_json(run.path(RUN_FILE).read_bytes())
        except ValidationError as error:
            raise RunError(f"{run.directory} is a run of another kind: give --restart, or another --name") from error
        found = [text for text in differences(old.recipe, new.recipe) if not text.startswith(SHOWN_FIELDS)]
        cure = "give --restart to begin anew, or another --name"
        if found:
            raise RunError(f"{run.directory} was begun with another recipe ({'; '.join(found)}): {cure}")
        if old.data_sha256 != new.data_sha256:
            raise RunError(f"{run.directory} was begun with other images ({old.data_sha256[:12]}...): {cure}")
    run.directory.mkdir(parents=True, exist_ok=True)
    with write_atomically(run.path(RUN_FILE)) as file:
        file.write(json.dumps(new.model_dump(mode="json"), indent=1).encode())


def _make(codec: Codec, recipe: CompressionRecipe, data: Dataset, run: RunDirectory, where: Where) -> Manifest:
    """Everything of a version but its card and manifest, in the run's `model/`; and that manifest."""
    directory = run.path(MODEL)
    graphs, golden = export_graphs(*_graphs_and_examples(codec, recipe, data), directory)
    served = ServedCodec(directory)
    tables = _tables(served, recipe, data, progress=where.progress)
    compression = _compression(served, recipe, tables, directory)
    x: Images = to_pixels(data.test).numpy()
    count = recipe.images_per_file
    points = measure_all(run.name, served, compression, x, images_per_file=count, progress=where.progress)
    sheets = [data.test[start : start + count].numpy() for start in range(0, len(data.test), count)]
    curves = {
        label: lossy_curve(sheets, write, qualities)
        for label, (write, qualities) in tqdm(lossy_codecs().items(), desc="beside", disable=not where.progress)
    }
    rates = tuple(
        RatePoint(
            tables=point_tables, images_per_file=count, bytes_per_image=point.bytes_per_image, psnr_db=point.psnr_db
        )
        for point_tables, point in zip(tables, points, strict=True)
    )
    _draw(directory, served, compression, data, {run.name: points, **curves})
    report, command = run.read(REPORT, "fit"), json.loads(run.path(RUN_FILE).read_bytes())["command"]
    parts = {name: len(getattr(data, name)) for name in ("train", "validation", "calibration", "test")}
    return Manifest(
        name=run.name,
        version=next_version(where.models / run.name),
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture=recipe.architecture.name,
        default_for=recipe.default_for,
        tasks=graphs,
        input=InputSpec(
            channels=recipe.data.channels,
            height=recipe.data.height,
            width=recipe.data.width,
            resize=recipe.data.resize,
        ),
        latent=None,
        anomaly=None,
        compression=compression.model_copy(update={"rates": rates}),
        golden=golden,
        metrics=_metrics(points, curves, lossless_size(sheets), data, count),
        provenance=provenance_of(
            recipe,
            report,
            Data(
                name=data.name,
                source=data.source,
                licence=data.licence,
                sha256=data.sha256,
                images=data.image_count,
                split=Split(**parts),
            ),
            command=command,
            commit=git_commit(),
        ),
        limits=recipe.limits,
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
    x: Images = to_pixels(data.train).numpy()
    rates = range(len(recipe.lambdas))
    return [
        fit_tables(np.rint(served.latents(x, rate)).astype(np.int32))
        for rate in tqdm(rates, desc="tables", unit="rate", disable=not progress)
    ]


def _compression(
    served: ServedCodec, recipe: CompressionRecipe, tables: list[tuple[SymbolTable, ...]], directory: Path
) -> Compression:
    """With tables and golden sample, and figures that are still to be measured."""
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
    x: Images = to_pixels(data.test[:SHOWN]).numpy()
    rows = {"original": torch.from_numpy(x)}
    for rate, point in enumerate(compression.rates):
        symbols = to_symbols(served.latents(x, rate), point.tables)
        rows[f"rate {rate}"] = torch.from_numpy(served.images(symbols, rate))
    with write_atomically(directory / PICTURE) as file:
        file.write(rows_of_images(rows))
    with write_atomically(directory / CURVE) as file:
        file.write(draw_curves(curves, around=curves[next(iter(curves))]))


def draw_curves(curves: dict[str, list[Point]], *, around: list[Point]) -> bytes:
    """PSNR over bytes per image of each method, as PNG, for the PSNRs of `around` and a little beyond."""
    low, high = min(p.psnr_db for p in around) - 2.0, max(p.psnr_db for p in around) + 2.0
    shown = {
        label: sorted((p.bytes_per_image, p.psnr_db) for p in points if low <= p.psnr_db <= high)
        for label, points in curves.items()
    }
    return lines(
        {label: points for label, points in shown.items() if points},
        x_label="bytes per image", y_label="PSNR, dB", log_x=True,
    )  # fmt: skip
