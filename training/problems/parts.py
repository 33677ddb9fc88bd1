"""Good images of parts: a detector of anomalies, learnt, exported, calibrated and measured.

All of it takes minutes and nothing is published before the end, so a fit that was stopped simply starts again.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Real
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import Calibration, Golden, Graph, InputSpec, Metric, Split
from training.anomaly.config import AnomalyRecipe
from training.anomaly.detector import Detector
from training.anomaly.learn import learn_detector
from training.anomaly.parts import Parts, read_parts
from training.anomaly.report import Defects, as_metrics, figures, judge_of, picture, read_defects
from training.anomaly.synthetic import synthesise
from training.baselines import PixelPca
from training.calibration import answers_of, calibration_of, false_positive_rate, too_few
from training.card import PICTURE
from training.errors import DataError
from training.export import PARITY_BATCHES, export_graphs
from training.files import write_atomically
from training.folder import Skipped
from training.images.pixels import to_pixels
from training.manifest import Finished, describe_data, git_commit
from training.problems.problem import Places, Problem, say
from training.randomness import generator_for
from training.run import MODEL, REPORT, Run, Sources

GRAPH = "anomaly.onnx"
SEEN = "learnt_from.txt"  # digests of the images that a model has learnt from, one a line


@dataclass(frozen=True)
class Images:
    """Good images in four parts, and for the figures alone some with defects."""

    parts: Parts
    defects: Defects | None

    @property
    def name(self) -> str:
        """Of the folder of good images."""
        return self.parts.name

    @property
    def sha256(self) -> str:
        """Over the bytes of all good images."""
        return self.parts.sha256

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that gave no good image."""
        return self.parts.skipped


PartsRun = Run[AnomalyRecipe, Images]


def read(recipe: AnomalyRecipe, sources: Sources, progress: bool) -> Images:
    """Good images, and defects with their masks where they were given.

    Raises:
        DataError: A folder is missing, or its images cannot be used.
        RecipeError: `data.groups` does not fit them.
    """
    if sources.data is None:
        raise DataError("which images? Give --data FOLDER, a folder of images of good parts")
    if sources.masks is not None and sources.defects is None:
        raise DataError("--masks says where defects are: give the images with --defects FOLDER, too")
    parts = read_parts(sources.data, recipe, progress=progress)
    if sources.defects is None:
        return Images(parts, None)
    return Images(parts, read_defects(sources.defects, sources.masks, parts.input, progress=progress))


def finish(run: PartsRun, places: Places) -> Finished:
    """Learn the detector, export and calibrate it, and measure it on defects, or on made-up ones."""
    recipe, parts, directory = run.recipe, run.data.parts, run.path(MODEL)
    wall, cpu = time.perf_counter(), time.process_time()
    detector = learn_detector(parts.train, parts.selection, recipe.detector, seed=recipe.seed, progress=places.progress)
    report = {
        "device": "CPU",
        "parameters": sum(t.numel() for t in [*detector.parameters(), *detector.buffers()]),
        "images_seen": recipe.detector.steps * recipe.detector.batch_size,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }
    run.write(REPORT, report)
    graph, golden = export_detector(detector, parts.train, directory)
    judge = judge_of(directory / GRAPH)
    answers = answers_of(directory / GRAPH, parts.calibration, progress=places.progress)
    calibration = calibration_of(answers, recipe.target_fpr, score=detector.description)
    held_out = torch.cat([parts.test, parts.calibration])
    defects = run.data.defects or made_up(held_out, recipe.seed)
    with write_atomically(directory / PICTURE) as file:
        file.write(picture(judge, calibration, held_out, defects))
    with write_atomically(directory / SEEN) as file:
        file.write("".join(f"{d}\n" for d in sorted(map(digest, torch.cat([parts.train, parts.selection])))).encode())
    metrics = _metrics(directory / GRAPH, parts, calibration, held_out, defects)
    limits = _limits(recipe, parts, calibration)
    say(metrics)
    for limit in limits:
        tqdm.write(f"mind: {limit}")
    split = Split(
        train=len(parts.train), validation=len(parts.selection), calibration=len(parts.calibration),
        test=len(parts.test),
    )  # fmt: skip
    return Finished(
        architecture="detector",
        tasks={"anomaly": graph},
        input=InputSpec(**parts.input.model_dump(include={"channels", "height", "width", "resize"})),
        golden=golden,
        data=describe_data(
            name=parts.name, source=recipe.data.source or f"a folder of {parts.count} images",
            licence=recipe.data.licence, sha256=parts.sha256, split=split,
        ),
        metrics=metrics,
        commit=git_commit(),
        limits=limits,
        sections={"anomaly": calibration},
    )  # fmt: skip


def export_detector(detector: Detector, images: Real[Tensor, "_ c h w"], directory: Path) -> tuple[Graph, Golden]:
    """The detector as `anomaly.onnx` with a golden sample, compared with PyTorch on some of the images."""
    x = to_pixels(images[: max(PARITY_BATCHES)])
    x = x.repeat(-(-max(PARITY_BATCHES) // len(x)), 1, 1, 1)[: max(PARITY_BATCHES)]
    graphs, golden = export_graphs({"anomaly": detector}, {"anomaly": x}, directory)
    return graphs["anomaly"], golden


def made_up(images: Real[Tensor, "_ c h w"], seed: int) -> Defects:
    """Synthetic anomalies of held-out normal images, where no real ones were given."""
    spoiled, masks = synthesise(to_pixels(images), generator_for(seed, 6))
    return Defects((spoiled * 255).round().to(torch.uint8), masks.numpy(), "synthetic anomalies")


def digest(image: Real[Tensor, "c h w"]) -> str:
    """What an image at the model's size is known by, as bytes or pixels."""
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


PARTS = Problem(
    takes=("data", "defects", "masks", "size"), read=read, summary=lambda data: _summary(data.parts), finish=finish
)
