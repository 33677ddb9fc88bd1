"""Anomaly detection on parts: train a detector on good images, export, calibrate and measure it.

A fit takes minutes and publishes at its end, so an interrupted fit starts from the beginning.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import Golden, Graph, InputSpec, Metric
from service.contract.provenance import Split
from service.contract.sections import Calibration
from training.anomaly.config import AnomalyRecipe
from training.anomaly.detector import Detector
from training.anomaly.known import FEWEST, Taught, compare_with
from training.anomaly.learn import Learnt, folds_of, learn_detector
from training.anomaly.looks import with_features
from training.anomaly.parts import Parts, read_parts
from training.anomaly.report import (
    NOT_MEASURED,
    Answer,
    Defects,
    as_metrics,
    figures,
    judge_of,
    operating_points,
    picture,
    read_defects,
)
from training.calibration import Answers, calibration_of, too_few
from training.card import PICTURE
from training.errors import DataError
from training.export import export_graphs
from training.exported import PARITY_BATCHES
from training.files import write_atomically
from training.images.folder import Skipped
from training.images.pixels import to_pixels
from training.manifest import Finished, describe_data, git_commit
from training.measure.baselines import PixelPca
from training.problems.problem import Places, Problem, say
from training.run import MODEL, REPORT, Run, Sources

GRAPH = "anomaly.onnx"
COMPARED = "; averaged with how much nearer the features are to those of known defects than to those of good images"
SEEN = "learnt_from.txt"  # digests of the images that a model has learnt from, one a line


@dataclass(frozen=True)
class Images:
    """Good images, and images with defects for the metrics alone."""

    parts: Parts
    defects: Defects | None

    @property
    def name(self) -> str:
        """The name of the folder of good images."""
        return self.parts.name

    @property
    def sha256(self) -> str:
        """Checksum of the bytes of all good images."""
        return self.parts.sha256

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were skipped, with the reasons."""
        return self.parts.skipped


PartsRun = Run[AnomalyRecipe, Images]


def read(recipe: AnomalyRecipe, sources: Sources, progress: bool) -> Images:
    """Read good images, and images with defects and their masks if given.

    Raises:
        DataError: A folder is missing, or its images cannot be used.
        RecipeError: `data.groups` does not fit the images.
    """
    if sources.data is None:
        raise DataError("which images? Give --data FOLDER, a folder of images of good parts")
    if sources.masks is not None and sources.defects is None:
        raise DataError("--masks says where defects are: give the images with --defects FOLDER, too")
    if recipe.learn_defects and sources.defects is None:
        raise DataError("learn_defects=true compares with known defects: give their images with --defects FOLDER")
    parts = read_parts(sources.data, recipe, progress=progress)
    if sources.defects is None:
        return Images(parts, None)
    defects = read_defects(sources.defects, sources.masks, parts.input, progress=progress)
    if recipe.learn_defects and len(defects.images) < FEWEST:
        raise DataError(
            f"--defects {sources.defects} holds {len(defects.images)} images; learn_defects=true needs {FEWEST} or more"
        )
    return Images(parts, defects)


def finish(run: PartsRun, places: Places) -> Finished:
    """Train the detector, export it, calibrate it by cross-validation, and measure it on defects if given."""
    recipe, parts, directory = run.recipe, run.data.parts, run.path(MODEL)
    wall, cpu = time.perf_counter(), time.process_time()
    count, shots = len(parts.images), 1 + len(parts.copies)
    images = torch.cat([parts.images[None], parts.copies]).flatten(0, 1) if len(parts.copies) else parts.images
    learnt = learn_detector(
        images,
        parts.groups * shots,
        recipe.detector,
        seed=recipe.seed,
        look=parts.look,
        progress=places.progress,
    )
    detector, defects = learnt.detector, run.data.defects
    taught = _taught(learnt, images, defects, seed=recipe.seed) if recipe.learn_defects and defects else None
    held_out = taught.good if taught else learnt.scores
    report = {
        "device": "CPU",
        "parameters": sum(t.numel() for t in [*detector.parameters(), *detector.buffers()]),
        "images_seen": len(images),
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }
    run.write(REPORT, report)
    tqdm.write("exporting the graph, and comparing it with PyTorch")
    graph, golden = export_detector(detector, parts.images, directory)
    # Of an image and its copies the highest: it is one image, and none of them is to be flagged.
    scores = held_out.reshape(shots, count).max(axis=0)
    peaks = learnt.maps.max(axis=(1, 2)).reshape(shots, count).max(axis=0)
    calibration = calibration_of(
        Answers(scores, peaks),
        recipe.target_fpr,
        score=detector.description + (COMPARED if taught else ""),
        learnt=with_features(parts.learnt, learnt.distances),
        takes_nan=True,
    )
    good = (held_out[:count], learnt.maps[:count])
    answer = judge_of(directory / GRAPH, progress=places.progress)(defects.images) if defects else None
    if answer and taught:
        answer = (taught.defects, answer[1])  # the graph has learnt from them
    with write_atomically(directory / PICTURE) as file:
        file.write(picture(calibration, parts.images, good, defects, answer))
    with write_atomically(directory / SEEN) as file:
        file.write("".join(f"{d}\n" for d in sorted(map(digest, parts.images))).encode())
    metrics = _metrics(
        recipe, parts, good, scores, defects=defects, answer=answer, is_taught=taught is not None,
        progress=places.progress,
    )  # fmt: skip
    limits = _limits(recipe, calibration, defects)
    say(metrics)
    for limit in limits:
        tqdm.write(f"mind: {limit}")
    return Finished(
        architecture="detector",
        tasks={"anomaly": graph},
        input=InputSpec(**parts.input.model_dump(include={"channels", "height", "width", "resize"})),
        golden=golden,
        data=describe_data(
            name=parts.name, source=recipe.data.source or f"a folder of {len(parts.images)} images",
            licence=recipe.data.licence, sha256=parts.sha256,
            split=Split(train=len(parts.images), validation=0, calibration=0, test=0),
        ),
        metrics=metrics,
        commit=git_commit(),
        limits=limits,
        sections={"anomaly": calibration},
    )  # fmt: skip


def _taught(learnt: Learnt, images: Real[Tensor, "_ c h w"], defects: Defects, *, seed: int) -> Taught | None:
    """Let the detector compare with known defects; return None, and leave it as it is, if that is not better."""
    tqdm.write(f"comparing with {len(defects.images)} known defects")
    taught = compare_with(learnt, images, defects.images, seed=seed)
    tqdm.write(
        f"share of good images below a defect: {taught.gain:+.3f}, standard error {taught.error:.3f}, by "
        f"cross-validation: known defects are {'used' if taught.is_better else 'left out'}"
    )
    if not taught.is_better:
        return None
    learnt.detector.known = taught.known
    return taught


def export_detector(detector: Detector, images: Real[Tensor, "_ c h w"], directory: Path) -> tuple[Graph, Golden]:
    """Export the detector as `anomaly.onnx` with a golden sample, compared with PyTorch on some of the images."""
    x = to_pixels(images[: max(PARITY_BATCHES)])
    x = x.repeat(-(-max(PARITY_BATCHES) // len(x)), 1, 1, 1)[: max(PARITY_BATCHES)]
    graphs, golden = export_graphs({"anomaly": detector}, {"anomaly": x}, directory)
    return graphs["anomaly"], golden


def digest(image: Real[Tensor, "c h w"]) -> str:
    """Return the digest of an image at the model's size, bytes or pixels."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _metrics(
    recipe: AnomalyRecipe,
    parts: Parts,
    good: Answer,
    calibrated: NDArray[np.float32],
    *,
    defects: Defects | None,
    answer: Answer | None,
    is_taught: bool,
    progress: bool,
) -> list[Metric]:
    count = len(parts.images)
    data = f"{count} good images, each by a detector that it did not teach"
    if defects is None or answer is None:
        return operating_points(calibrated, None, asked=recipe.target_fpr, data=data)
    data += f", and {len(defects.images)} images of {defects.name}" + (", likewise" if is_taught else "")
    fold_of = folds_of(parts.groups)
    peer_good = (np.zeros_like(good[0]), np.zeros_like(good[1]))
    for fold in tqdm(range(int(fold_of.max()) + 1), desc="linear baseline", unit="fold", disable=not progress):
        out = fold_of == fold
        peer_good[0][out], peer_good[1][out] = _pca(parts.images[~out])(parts.images[out])
    found = figures(good, answer, defects.masks)
    beside = {PixelPca.name: figures(peer_good, _pca(parts.images)(defects.images), defects.masks)}
    metrics = as_metrics(found, beside, good=count, defects=len(defects.images), data=data)
    return [*metrics, *operating_points(calibrated, answer[0], asked=recipe.target_fpr, data=data)]


def _pca(images: Real[Tensor, "_ c h w"]) -> PixelPca:
    peer = PixelPca()
    peer.fit(images)
    return peer


def _limits(recipe: AnomalyRecipe, calibration: Calibration, defects: Defects | None) -> tuple[str, ...]:
    limits = list(recipe.limits)
    limits += [sentence] if (sentence := too_few(calibration)) else []
    if defects is None:
        limits.append(NOT_MEASURED)
    return tuple(limits)


def _summary(parts: Parts) -> str:
    config = parts.input
    colour = "grey" if config.channels == 1 else "colour"
    groups = f" in {len(set(parts.groups))} groups" if len(set(parts.groups)) < len(parts.groups) else ""
    return (
        f"{len(parts.images)} {colour} images{groups}, seen at {config.width}x{config.height} (resize {config.resize})"
        "; each teaches, and is scored by a detector that it did not teach"
    )


PARTS = Problem(
    takes=("data", "defects", "masks", "size", "look", "feedback"),
    read=read,
    summary=lambda data: _summary(data.parts),
    finish=finish,
)
