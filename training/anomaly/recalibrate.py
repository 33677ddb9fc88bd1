"""`python -m training calibrate NAME --data more_good/`: recalibrate a published model on other images.

The new version has the same graphs, with new scores, threshold, figures and card.
"""

import hashlib
import shlex
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import JsonValue
from tqdm import tqdm

from service.contract.manifest import InputSpec, Manifest
from service.contract.provenance import Split
from service.contract.sections import Calibration, Learnt
from service.images.resize import plan_placement, resample
from training.anomaly.looks import joined, looks_of, with_features
from training.anomaly.parts import find_good, shown
from training.anomaly.report import (
    NOT_MEASURED,
    Defects,
    as_metrics,
    distances_of,
    figures,
    judge_of,
    operating_points,
    picture,
    read_defects,
)
from training.calibration import Answers, calibration_of, too_few
from training.card import PICTURE
from training.charts import histogram, lines
from training.config import DataConfig
from training.errors import DataError, RunError
from training.files import write_atomically
from training.images.folder import read_files
from training.images.pixels import to_bytes
from training.images.reader import read_pixels
from training.problems.parts import GRAPH, SEEN, digest
from training.problems.problem import say
from training.publish import newest_version, publish, write_card_and_manifest
from training.run import MODEL, RunDirectory, Sources
from training.verify import verify

ROC, HISTOGRAM = "roc.png", "scores.png"
COUNTED = "calibrated_on.txt"  # digests of the images whose scores are in the calibration, beside those it learnt from
ALIKE = 0.05  # smallest p-value of a Kolmogorov-Smirnov test at which old and new scores are pooled
POOLED = "pooled with those it had, whose scores are alike"
ALONE = "in place of those it had, whose scores are others: the parts, the light or the camera changed"
CHOSEN = "the threshold is too high and defects are missed"
MANY = 0.5  # share of good images over the old threshold at which they look chosen


@dataclass(frozen=True)
class _Read:
    """New good images at the model's size, with defects if given."""

    good: torch.Tensor
    learnt: Learnt  # what they look like
    as_bytes: list[torch.Tensor]  # the same images as earlier versions listed them
    name: str
    defects: Defects | None

    @property
    def sha256(self) -> str:
        """Checksum of the bytes of all good images."""
        return hashlib.sha256(self.good.numpy().tobytes()).hexdigest()


def recalibrate(name: str, sources: Sources, *, models: Path, command: str, progress: bool = True) -> Path:
    """Publish the next version of a model, calibrated on other good images, and return its directory.

    Args:
        name: Model name.
        sources: `data` are good images outside the training set; `defects` and `masks` are for figures and charts.
        models: Directory of published models.
        command: Command line, for the card.
        progress: Show progress bars.

    Raises:
        RunError: The model is missing, or does not offer the anomaly task.
        DataError: The images cannot be used, or all are in the model's training set or calibration already.
        VerifyError, PublishError: The version is broken, or cannot be written.
    """
    version = newest_version(models / name)
    if version is None:
        there = sorted({path.parent.parent.name for path in models.glob("*/*/manifest.json")})
        raise RunError(f"no model {name!r} in {models}; there are {', '.join(there) or 'none'}")
    old = verify(version)
    if old.anomaly is None:
        raise RunError(f"model {name!r} has no anomaly task; it offers {', '.join(old.tasks)}")
    read = _leave_out_known(_read(sources, old, progress=progress), version)
    with TemporaryDirectory() as home:
        run = RunDirectory(Path(home), name)
        directory = run.path(MODEL)
        shutil.copytree(version, directory)
        judge = judge_of(directory / GRAPH, progress=progress)
        good = judge(read.good)
        distances = distances_of(directory / GRAPH, read.good, progress=progress)
        learnt = read.learnt if distances is None else with_features(read.learnt, distances)
        is_pooled, calibration = _pooled(
            old.anomaly,
            Answers(good[0], good[1].max(axis=(1, 2))),
            joined(old.anomaly.learnt, learnt),
        )
        data, anomalous, metrics = f"{len(read.good)} good images of {read.name}", None, []
        if read.defects is not None:
            anomalous = judge(read.defects.images)
            data += f", and {len(read.defects.images)} images of {read.defects.name}"
            found = figures(good, anomalous, read.defects.masks)
            metrics = as_metrics(found, {}, good=len(read.good), defects=len(read.defects.images), data=data)
            _draw(directory, good[0], anomalous[0], calibration)
        metrics += operating_points(
            good[0], None if anomalous is None else anomalous[0], asked=old.anomaly.target_fpr, data=data
        )
        with write_atomically(directory / PICTURE) as file:
            file.write(picture(calibration, read.good, good, read.defects, anomalous))
        _note_counted(directory, read, is_pooled=is_pooled)
        chosen = _look_chosen(float((good[0] >= old.anomaly.threshold).mean()), old.version)
        manifest = _manifest(old, calibration, read, command, chosen).model_copy(update={"metrics": tuple(metrics)})
        write_card_and_manifest(directory, manifest)
        verify(directory)
        target = publish(run, models)
    verify(target)
    tqdm.write(
        f"{len(read.good)} new images, {POOLED if is_pooled else ALONE}: threshold {calibration.threshold:.5g} for a "
        f"false-positive rate of {calibration.target_fpr:g} (was {old.anomaly.threshold:.5g} from "
        f"{len(old.anomaly.scores)} images)"
    )
    say(manifest.metrics)
    for sentence in (too_few(calibration), chosen):
        if sentence:
            tqdm.write(f"mind: {sentence}")
    tqdm.write(f"published {target}")
    tqdm.write(f"next: python -m service --models-dir {shlex.quote(str(models))}")
    return target


def _pooled(old: Calibration, new: Answers, learnt: Learnt) -> tuple[bool, Calibration]:
    """Pool old and new scores if their distributions are alike, else use the new ones.

    Also return whether they are pooled.
    """
    from scipy.stats import ks_2samp  # noqa: PLC0415  it takes a second, and every command imports this file

    is_pooled = bool(ks_2samp(old.scores, new.scores).pvalue >= ALIKE and old.map_peaks)
    if is_pooled:
        scores, peaks = (
            np.concatenate([np.array(before, np.float32), now])
            for before, now in ((old.scores, new.scores), (old.map_peaks, new.peaks))
        )
        new = Answers(scores, peaks)
    return is_pooled, calibration_of(new, old.target_fpr, score=old.score, learnt=learnt, takes_nan=old.takes_nan)


def _read(sources: Sources, manifest: Manifest, *, progress: bool) -> _Read:
    size = manifest.input
    if size.height is None or size.width is None:
        raise RunError(f"model {manifest.name!r} takes images of any size; only models of one size are calibrated")
    config = DataConfig(channels=size.channels, height=size.height, width=size.width, resize=size.resize)
    if sources.data is None:
        raise DataError("which images? Give --data FOLDER, a folder of good images that the model has not seen")
    found = read_files(find_good(sources.data), config, label=shown(sources.data), progress=progress)
    for skipped in found.skipped[:20]:
        tqdm.write(f"skipped {skipped}")
    defects = None
    if sources.defects is not None:
        defects = read_defects(sources.defects, sources.masks, config, progress=progress)
    as_bytes = [_as_bytes(path, config) for path in found.paths]
    looks = looks_of(found.paths, found.images)
    return _Read(found.images, looks, as_bytes, sources.data.resolve().name, defects)


def _leave_out_known(read: _Read, version: Path) -> _Read:
    """Return the images that are new to a version.

    Scores of training images are too low, and no image may count twice.
    """
    if not (version / SEEN).is_file():
        tqdm.write(f"mind: {version} keeps no list of the images it has learnt from; make sure that these are others")
    learnt, counted = (_digests(version / name) for name in (SEEN, COUNTED))
    digests = [{digest(x), digest(older)} for x, older in zip(read.good, read.as_bytes, strict=True)]
    is_learnt, is_counted = ([bool(of & known) for of in digests] for known in (learnt, counted))
    new = [i for i in range(len(digests)) if not (is_learnt[i] or is_counted[i])]
    said = (
        f"{read.name}: of these {len(digests)} images the model has learnt from {sum(is_learnt)}, and "
        f"{sum(is_counted)} are in its calibration"
    )
    if not new:
        raise DataError(f"{said}, so none is new; give images that it has not seen")
    if len(new) < len(digests):
        tqdm.write(f"{said}; they are left out, {len(new)} are new")
    return replace(read, good=read.good[new], as_bytes=[read.as_bytes[i] for i in new])


def _digests(file: Path) -> set[str]:
    return set(file.read_text("utf-8").split()) if file.is_file() else set()


def _note_counted(directory: Path, read: _Read, *, is_pooled: bool) -> None:
    counted = set(map(digest, read.good)) | (_digests(directory / COUNTED) if is_pooled else set())
    with write_atomically(directory / COUNTED) as file:
        file.write("".join(f"{known}\n" for known in sorted(counted)).encode())


def _look_chosen(share: float, version: int) -> str:
    """Return a warning if the previous version flags most of the good images; else ""."""
    if share < MANY:
        return ""
    return (
        f"{share:.0%} of the good images that it was calibrated on were unusual for version {version}; if only its "
        f"false alarms were collected, and no ordinary parts, {CHOSEN}"
    )


def _as_bytes(path: Path, config: DataConfig) -> UInt8[torch.Tensor, "channel height width"]:
    """Read an image as earlier releases did, resized in 8 bits, to compare it with their lists of training images."""
    x = to_bytes(torch.from_numpy(read_pixels(path, config.channels))).float().numpy()
    spec = InputSpec(channels=config.channels, height=config.height, width=config.width, resize=config.resize)
    plan = plan_placement(spec, *x.shape[1:])
    inner = resample(x, plan.inner_height, plan.inner_width)
    bottom, right = plan.canvas_height - plan.inner_height - plan.top, plan.canvas_width - plan.inner_width - plan.left
    whole = np.pad(inner, ((0, 0), (plan.top, bottom), (plan.left, right)), mode="edge")
    return torch.from_numpy(whole.round().clip(0, 255).astype(np.uint8))


def _manifest(old: Manifest, calibration: Calibration, read: _Read, command: str, chosen: str) -> Manifest:
    made = old.provenance
    split = made.data.split
    said = too_few(old.anomaly) if old.anomaly else None
    limits = [limit for limit in old.limits if limit != said and (limit != NOT_MEASURED or read.defects is None)]
    limits = [limit for limit in limits if not limit.endswith(CHOSEN)]
    limits += [sentence for sentence in (too_few(calibration), chosen) if sentence]
    data = made.data.model_copy(
        update={
            "split": Split(train=split.train, validation=split.validation, calibration=len(read.good), test=split.test),
            "images": split.train + split.validation + len(read.good) + split.test,
        }
    )
    config: dict[str, JsonValue] = {**made.config}
    config |= {"calibration": {"data": read.name, "images": len(read.good), "sha256": read.sha256}}
    # The command that made the graphs stays, the calibrations follow in their order.
    first = made.command.split(" && ", maxsplit=1)[0]
    provenance = made.model_copy(update={"data": data, "config": config, "command": f"{first} && {command}"})
    return old.model_copy(
        update={
            "created": datetime.now(UTC).replace(microsecond=0),
            "anomaly": calibration,
            "provenance": provenance,
            "limits": tuple(limits),
        }
    )


def _draw(directory: Path, good: np.ndarray, defects: np.ndarray, calibration: Calibration) -> None:
    """Draw the ROC curve and the histogram of scores beside the card."""
    thresholds = np.sort(np.concatenate([good, defects]))[::-1]
    points = [(0.0, 0.0)] + [(float((good >= t).mean()), float((defects >= t).mean())) for t in thresholds]
    at = [(float((good >= calibration.threshold).mean()), float((defects >= calibration.threshold).mean()))]
    with write_atomically(directory / ROC) as file:
        file.write(
            lines(
                {"ROC": points, "threshold": at, "chance": [(0.0, 0.0), (1.0, 1.0)]},
                x_label="share of good images flagged",
                y_label="share of defects flagged",
            )
        )
    with write_atomically(directory / HISTOGRAM) as file:
        file.write(histogram({"good": good.tolist(), "defects": defects.tolist()}, x_label="anomaly score"))
