"""Figures and pictures of how well a model separates defects from good images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from service.contract.manifest import Metric
from service.contract.sections import Calibration
from training.anomaly.masks import find_mask, read_masks
from training.calibration import CHUNK_PIXELS, conformal_threshold
from training.config import DataConfig
from training.errors import DataError
from training.images.folder import find_images, read_files
from training.images.pixels import to_pixels
from training.measure.anomaly import aupro, auroc, f1_max, pixel_auroc
from training.picture import rows_of_images

Images = Real[Tensor, "_ channel height width"]
Answer = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (N,), maps (N,H,W)
Judge = Callable[[Tensor], Answer]  # of images

SHOWN_GOOD, SHOWN_DEFECTS, SHOWN_SIDE = 2, 4, 168  # images on the card, and pixels of each
RATES = (0.01, 0.02, 0.05, 0.1)  # of false alarms, in the card's figures
NOT_MEASURED = "How well defects are found was not measured: no images of them were given (--defects)."
HEAT = (1.0, 0.15, 0.0)  # the colour laid over a picture where its map is high


@dataclass(frozen=True)
class Defects:
    """Images with defects at the model's size, and their masks, (N,H,W), if given."""

    images: Images
    masks: NDArray[np.bool_] | None
    name: str


def read_defects(folder: Path, masks: Path | None, config: DataConfig, *, progress: bool) -> Defects:
    """Read images with defects from a folder, and their masks from another; see `masks.py`.

    Raises:
        DataError: The folder has no image, or masks are given and one is missing or unusable.
    """
    if not folder.is_dir():
        raise DataError(f"--defects {folder}: no such folder")
    files = find_images(folder)
    found = read_files(files, config, label=str(folder), progress=progress)
    if masks is None:
        return Defects(found.images, None, folder.resolve().name)
    mask_files = [find_mask(path.relative_to(folder), masks) for path in found.paths]
    return Defects(found.images, read_masks(mask_files, config), folder.resolve().name)


def judge_of(graph: Path | bytes, *, progress: bool = False) -> Judge:
    """Return the graph as a function from images (N,C,H,W), bytes, to scores and maps, with a progress bar or not."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def judge(images: Tensor) -> Answer:
        chunks = torch.split(images, max(1, CHUNK_PIXELS // images[0, 0].numel()))
        answers = [session.run(["score", "map"], {"x": to_pixels(chunk).numpy()}) for chunk in _shown(chunks, progress)]
        scores, maps = zip(*answers, strict=True)
        return np.concatenate(scores), np.concatenate(maps)

    return judge


def distances_of(graph: Path, images: Tensor, *, progress: bool = False) -> NDArray[np.float32] | None:
    """Return the distance of each image as a whole from good ones, (N,); None if the graph has no such output."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    if "distance" not in {output.name for output in session.get_outputs()}:
        return None
    chunks = torch.split(images, max(1, CHUNK_PIXELS // images[0, 0].numel()))
    found = [session.run(["distance"], {"x": to_pixels(chunk).numpy()})[0] for chunk in _shown(chunks, progress)]
    return np.concatenate(found)


def _shown(chunks: Sequence[Tensor], progress: bool) -> Iterable[Tensor]:
    return tqdm(chunks, desc="score", unit="batch", disable=not progress)


def figures(good: Answer, anomalous: Answer, masks: NDArray[np.bool_] | None) -> dict[str, float]:
    """Compute AUROC and F1-max of images; with masks also AUROC and AUPRO of pixels, at the model's size.

    Args:
        good: Held-out scores and maps of good images, at least one.
        anomalous: Scores of images with defects.
        masks: Masks of the defects.
    """
    found = {"auroc": auroc(good[0], anomalous[0]), "f1_max": f1_max(good[0], anomalous[0])}
    if masks is not None and masks.any():
        true = [np.zeros(m.shape, bool) for m in good[1]] + list(masks)
        maps = [*good[1], *anomalous[1]]
        found |= {"pixel_auroc": pixel_auroc(maps, true), "aupro": aupro(maps, true)}
    return found


def as_metrics(
    found: dict[str, float], beside: dict[str, dict[str, float]], *, good: int, defects: int, data: str
) -> list[Metric]:
    """Return figures as metrics of the manifest.

    Args:
        found: Figures of the model by name.
        beside: Figures of each peer, by the peer's name.
        good: Number of good images.
        defects: Number of images with defects.
        data: Description of the images.
    """
    chance = {"auroc": 0.5, "pixel_auroc": 0.5, "aupro": 0.15, "f1_max": 2 * defects / (2 * defects + good)}
    units = {"f1_max": "F1", "aupro": "area up to a rate of 0.3"}
    return [
        Metric(
            name=name,
            task="anomaly",
            value=value,
            unit=units.get(name, "area under the ROC curve"),
            data=data,
            higher_is_better=True,
            baselines={"chance": chance[name], **{peer: values[name] for peer, values in beside.items()}},
        )
        for name, value in found.items()
    ]


def operating_points(
    scores: NDArray[np.float32], defects: NDArray[np.float32] | None, *, asked: float, data: str
) -> list[Metric]:
    """Return the shares of good images, and of defects if given, that thresholds for several rates flag.

    A fifth of the good images at a time is judged by a threshold from the others, since a threshold from all of them
    flags the target share by construction. Rates below the resolution of the images are left out, except `asked`.

    Args:
        scores: Held-out scores of good images, in random order.
        defects: Scores of images with defects.
        asked: The rate that the model is published with.
        data: Description of the images.
    """
    found = []
    for rate in sorted({asked, *(rate for rate in RATES if (len(scores) + 1) * rate >= 1)}):
        threshold = conformal_threshold(scores, rate)
        flagged = [
            part >= conformal_threshold(np.delete(scores, range(i, len(scores), 5)), rate)
            for i, part in enumerate(scores[i::5] for i in range(min(5, len(scores))))
        ]
        name, unit = f"{rate:g}", f"share of images; threshold {threshold:.4g}"
        realised = float(np.concatenate(flagged).mean())
        found.append(_share(f"flagged_at_{name}", realised, unit, data, {"asked for": rate}))
        if defects is not None:
            share, beside = float(np.mean(defects >= threshold)), {"good images flagged": realised}
            found.append(_share(f"found_at_{name}", share, unit, data, beside, is_better=True))
    return found


def _share(
    name: str, value: float, unit: str, data: str, beside: dict[str, float], *, is_better: bool = False
) -> Metric:
    return Metric(
        name=name, task="anomaly", value=value, unit=unit, data=data, higher_is_better=is_better, baselines=beside
    )


def picture(
    calibration: Calibration, good: Images, good_answer: Answer, defects: Defects | None, answer: Answer | None
) -> bytes:
    """Draw images, their heat maps, the marked regions, and the true masks if known, as a PNG.

    Without defects, the images are the good ones with the highest scores, to check that all of them are good.
    """
    if defects is None or answer is None:
        highest = np.argsort(-good_answer[0], kind="stable")[: SHOWN_GOOD + SHOWN_DEFECTS].tolist()
        images, maps, true = good[highest], good_answer[1][highest], None
    else:
        usual, some = range(min(SHOWN_GOOD, len(good))), _spread(len(defects.images))
        images = torch.cat([good[list(usual)], defects.images[some]])
        maps = np.concatenate([good_answer[1][list(usual)], answer[1][some]])
        true = None
        if defects.masks is not None:
            true = np.concatenate([np.zeros((len(usual), *maps.shape[1:]), bool), defects.masks[some]])
    level = conformal_threshold(calibration.map_peaks, calibration.target_fpr)
    x = to_pixels(images).expand(-1, 3, -1, -1)
    strength = (torch.from_numpy(maps)[:, None] / max(level, 1e-6) - 0.5).clamp(0.0, 1.0)  # none below half the level
    heat = x * (1 - 0.8 * strength) + 0.8 * strength * torch.tensor(HEAT)[None, :, None, None]
    rows = {"image": x, "map": heat, "marked": torch.from_numpy(maps >= level)[:, None].float()}
    if true is not None:
        rows["true mask"] = torch.from_numpy(true)[:, None].float()
    return rows_of_images({name: _shrunk(images) for name, images in rows.items()})


def _shrunk(x: Tensor) -> Tensor:
    shrink = max(1, round(max(x.shape[2:]) / SHOWN_SIDE))
    return F.avg_pool2d(x, shrink).clamp(0.0, 1.0)


def _spread(count: int) -> list[int]:
    """Return evenly spaced indices below `count`."""
    return list(range(0, count, max(1, count // SHOWN_DEFECTS)))[:SHOWN_DEFECTS]
