"""From a folder of good images to a published model: read, learn, export, calibrate, measure, publish.

All of it takes minutes and nothing is published before the end, so a fit that was stopped simply starts again.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import (
    Calibration,
    Data,
    Golden,
    Graph,
    InputSpec,
    Manifest,
    Metric,
    Provenance,
    Split,
)
from training.anomaly.config import AnomalyRecipe
from training.anomaly.detector import Detector
from training.anomaly.learn import learn_detector
from training.anomaly.parts import Parts, read_parts
from training.anomaly.report import Defects, as_metrics, figures, judge_of, picture, read_defects
from training.anomaly.synthetic import synthesise
from training.baselines import PixelPca
from training.calibrate import answers_of, calibration_of, false_positive_rate, too_few
from training.card import PICTURE
from training.data import UNSTATED
from training.export import PARITY_BATCHES, export_graphs
from training.files import write_atomically
from training.images.pixels import to_pixels
from training.publish import discard_folder, git_commit, next_version, publish, write_card_and_manifest
from training.randomness import generator_for
from training.restoration.fit import Where
from training.run import MODEL, RUN_FILE, RunDirectory, discard
from training.verify import verify

GRAPH = "anomaly.onnx"
SEEN = "learnt_from.txt"  # digests of the images that a model has learnt from, one a line


@dataclass(frozen=True)
class Images:
    """Folders of images: good ones, and for the figures alone some with defects and their masks."""

    good: Path
    defects: Path | None = None
    masks: Path | None = None


def fit(recipe: AnomalyRecipe, name: str, sources: Images, where: Where, *, command: str) -> Path:
    """Make a model and return its directory.

    Raises:
        DataError: The images cannot be used.
        RecipeError: `data.groups` does not fit them.
        ExportError, VerifyError, PublishError: That stage failed.
    """
    progress = where.progress
    parts = read_parts(sources.good, recipe, progress=progress)
    for skipped in parts.skipped[:20]:
        tqdm.write(f"skipped {skipped.path}: {skipped.reason}")
    tqdm.write(_summary(parts))
    real = None
    if sources.defects is not None:
        real = read_defects(sources.defects, sources.masks, parts.input, progress=progress)
    run = RunDirectory(where.runs / name, name)
    if where.is_restart:
        discard(run.directory)
    directory = run.path(MODEL)
    run.directory.mkdir(parents=True, exist_ok=True)
    run.write(RUN_FILE, {"name": name, "recipe": recipe.model_dump(mode="json"), "data_sha256": parts.sha256})
    discard_folder(directory)
    wall, cpu = time.perf_counter(), time.process_time()
    detector = learn_detector(parts.train, parts.selection, recipe.detector, seed=recipe.seed, progress=progress)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    graph, golden = export_detector(detector, parts.train, directory)
    judge = judge_of(directory / GRAPH)
    answers = answers_of(directory / GRAPH, parts.calibration, progress=progress)
    calibration = calibration_of(answers, recipe.target_fpr, score=detector.description)
    held_out = torch.cat([parts.test, parts.calibration])
    defects = real or made_up(held_out, recipe.seed)
    with write_atomically(directory / PICTURE) as file:
        file.write(picture(judge, calibration, held_out, defects))
    with write_atomically(directory / SEEN) as file:
        file.write("".join(f"{d}\n" for d in sorted(map(digest, torch.cat([parts.train, parts.selection])))).encode())
    manifest = Manifest(
        name=name,
        version=next_version(where.models / name),
        created=datetime.now(UTC).replace(microsecond=0),
        summary=recipe.summary,
        architecture="detector",
        default_for=recipe.default_for,
        tasks={"anomaly": graph},
        input=InputSpec(
            channels=parts.input.channels, height=parts.input.height, width=parts.input.width,
            resize=parts.input.resize,
        ),
        latent=None,
        anomaly=calibration,
        golden=golden,
        metrics=tuple(_metrics(directory / GRAPH, parts, calibration, held_out, defects)),
        provenance=Provenance(
            data=_data(recipe, parts),
            seed=recipe.seed,
            config=recipe.model_dump(mode="json"),
            command=command,
            commit=git_commit(),
            torch_version=torch.__version__,
            device="CPU",
            parameters=sum(t.numel() for t in [*detector.parameters(), *detector.buffers()]),
            images_seen=recipe.detector.steps * recipe.detector.batch_size,
            wall_s=wall_s,
            cpu_s=cpu_s,
        ),
        limits=_limits(recipe, parts, calibration),
    )  # fmt: skip
    write_card_and_manifest(directory, manifest)
    verify(directory)
    target = publish(run, where.models)
    verify(target)
    _say(manifest, target)
    return target


def export_detector(detector: Detector, images: UInt8[Tensor, "_ c h w"], directory: Path) -> tuple[Graph, Golden]:
    """The detector as `anomaly.onnx` with a golden sample, compared with PyTorch on some of the images."""
    x = to_pixels(images[: max(PARITY_BATCHES)])
    x = x.repeat(-(-max(PARITY_BATCHES) // len(x)), 1, 1, 1)[: max(PARITY_BATCHES)]
    graphs, golden = export_graphs({"anomaly": detector}, {"anomaly": x}, directory)
    return graphs["anomaly"], golden


def made_up(images: UInt8[Tensor, "_ c h w"], seed: int) -> Defects:
    """Synthetic anomalies of held-out normal images, where no real ones were given."""
    spoiled, masks = synthesise(to_pixels(images), generator_for(seed, 6))
    return Defects((spoiled * 255).round().to(torch.uint8), masks.numpy(), "synthetic anomalies")


def digest(image: UInt8[Tensor, "c h w"]) -> str:
    """What an image at the model's size is known by."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _metrics(graph: Path, parts: Parts, calibration: Calibration, held_out: Tensor, defects: Defects) -> list[Metric]:
    peer = PixelPca()
    peer.fit(torch.cat([parts.train, parts.selection]))
    found = figures(judge_of(graph), held_out, defects)
    metrics = as_metrics(
        found, {peer.name: figures(peer, held_out, defects)},
        good=len(held_out), calibration=len(parts.calibration), defects=len(defects.images), data=defects.name,
    )  # fmt: skip
    if len(parts.test):
        rate = false_positive_rate(calibration, answers_of(graph, parts.test), data=f"test images of {parts.name}")
        return [rate, *metrics]
    return metrics


def _data(recipe: AnomalyRecipe, parts: Parts) -> Data:
    split = Split(
        train=len(parts.train), validation=len(parts.selection), calibration=len(parts.calibration),
        test=len(parts.test),
    )  # fmt: skip
    return Data(
        name=parts.name, source=recipe.data.source or f"a folder of {parts.count} images",
        licence=parts.input.licence or UNSTATED,
        sha256=parts.sha256, images=parts.count, split=split,
    )  # fmt: skip


def _limits(recipe: AnomalyRecipe, parts: Parts, calibration: Calibration) -> tuple[str, ...]:
    limits = list(recipe.limits)
    limits += [sentence] if (sentence := too_few(calibration)) else []
    if not len(parts.test):
        limits.append(
            f"{parts.count} images are too few to keep some for measuring the rate of false alarms: it is promised by "
            "the calibration, not measured."
        )
    return tuple(limits)


def _summary(parts: Parts) -> str:
    config = parts.input
    colour = "grey" if config.channels == 1 else "colour"
    return (
        f"{parts.count} {colour} images, seen at {config.width}x{config.height} (resize {config.resize}): "
        f"{len(parts.train)} to learn from, {len(parts.selection)} to weigh scores, {len(parts.calibration)} for "
        f"calibration, {len(parts.test)} for the rate of false alarms"
    )


def _say(manifest: Manifest, target: Path) -> None:
    for metric in manifest.metrics:
        beside = ", ".join(f"{name} {value:.4g}" for name, value in metric.baselines.items())
        tqdm.write(f"{metric.name} {metric.value:.4g} on {metric.data}  (beside: {beside})")
    for limit in manifest.limits:
        tqdm.write(f"mind: {limit}")
    tqdm.write(f"published {target}")
