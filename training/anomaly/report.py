"""How well a model tells defects from good images, in figures and pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Real
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from service.contract.manifest import Calibration, Metric
from training.anomaly.masks import find_mask, read_masks
from training.anomaly.measure import aupro, auroc, f1_max, pixel_auroc
from training.calibration import CHUNK_PIXELS, conformal_threshold
from training.config import DataConfig
from training.errors import DataError
from training.folder import find_images, read_files
from training.images.pixels import to_pixels
from training.picture import rows_of_images

Images = Real[Tensor, "_ channel height width"]
Judge = Callable[[Tensor], tuple[NDArray[np.float32], NDArray[np.float32]]]  # images -> scores (N,), maps (N,H,W)

SHOWN_GOOD, SHOWN_DEFECTS, SHOWN_SIDE = 2, 4, 168  # images on the card, and pixels of each
HEAT = (1.0, 0.15, 0.0)  # the colour laid over a picture where its map is high


@dataclass(frozen=True)
class Defects:
    """Images with defects at the model's size, and for each where they are: (N,H,W), if masks were given."""

    images: Images
    masks: NDArray[np.bool_] | None
    name: str


def read_defects(folder: Path, masks: Path | None, config: DataConfig, *, progress: bool) -> Defects:
    """Images with defects from a folder, and their masks from another, see `masks.py`.

    Raises:
        DataError: No image, or one without a usable mask where masks are given.
    """
    if not folder.is_dir():
        raise DataError(f"--defects {folder}: no such folder")
    files = find_images(folder)
    found = read_files(files, config, label=str(folder), progress=progress)
    if masks is None:
        return Defects(found.images, None, folder.resolve().name)
    mask_files = [find_mask(path.relative_to(folder), masks) for path in found.paths]
    return Defects(found.images, read_masks(mask_files, config), folder.resolve().name)


def judge_of(graph: Path | bytes) -> Judge:
    """The graph as a function of images (N,C,H,W), bytes: their scores and maps."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def judge(images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        chunks = torch.split(images, max(1, CHUNK_PIXELS // images[0, 0].numel()))
        answers = [session.run(None, {"x": to_pixels(chunk).numpy()}) for chunk in chunks]
        scores, maps = zip(*answers, strict=True)
        return np.concatenate(scores), np.concatenate(maps)

    return judge


def figures(judge: Judge, good: Images, defects: Defects) -> dict[str, float]:
    """AUROC and F1-max of images; with masks also AUROC and AUPRO of pixels, at the model's size.

    Args:
        judge: What answers.
        good: Normal images that were not learnt from, at least one.
        defects: Images with defects.
    """
    (scores, maps), (scores_defects, maps_defects) = judge(good), judge(defects.images)
    found = {"auroc": auroc(scores, scores_defects), "f1_max": f1_max(scores, scores_defects)}
    if defects.masks is not None and defects.masks.any():
        masks = [np.zeros(m.shape, bool) for m in maps] + list(defects.masks)
        all_maps = [*maps, *maps_defects]
        found |= {"pixel_auroc": pixel_auroc(all_maps, masks), "aupro": aupro(all_maps, masks)}
    return found


def as_metrics(
    found: dict[str, float],
    beside: dict[str, dict[str, float]],
    *,
    good: int,
    calibration: int,
    defects: int,
    data: str,
) -> list[Metric]:
    """Figures as the manifest wants them.

    Args:
        found: The model's, by name.
        beside: The name of a peer to its figures.
        good: How many normal images.
        calibration: How many of those the threshold comes from; these figures do not depend on it.
        defects: How many with defects.
        data: What the defects are.
    """
    chance = {"auroc": 0.5, "pixel_auroc": 0.5, "aupro": 0.15, "f1_max": 2 * defects / (2 * defects + good)}
    units = {"f1_max": "F1", "aupro": "area up to a rate of 0.3"}
    return [
        Metric(
            name=name,
            task="anomaly",
            value=value,
            unit=units.get(name, "area under the ROC curve"),
            data=f"{good} normal images ({calibration} of them of the calibration), {defects} {data}",
            higher_is_better=True,
            baselines={"chance": chance[name], **{peer: values[name] for peer, values in beside.items()}},
        )
        for name, value in found.items()
    ]


def picture(judge: Judge, calibration: Calibration, good: Images, defects: Defects) -> bytes:
    """A PNG: good and defective images, their maps as heat over them, what is marked, and the true mask if known."""
    images = torch.cat([to_pixels(good[:SHOWN_GOOD]), to_pixels(defects.images[_spread(len(defects.images))])])
    _, maps = judge(images)
    shown_good = len(good[:SHOWN_GOOD])
    level = conformal_threshold(calibration.map_peaks, calibration.target_fpr)
    marked = torch.from_numpy(maps >= level)[:, None].float()
    x = images.expand(-1, 3, -1, -1)
    strength = (torch.from_numpy(maps)[:, None] / max(level, 1e-6) - 0.5).clamp(0.0, 1.0)  # none below half the level
    heat = x * (1 - 0.8 * strength) + 0.8 * strength * torch.tensor(HEAT)[None, :, None, None]
    rows = {"image": x, "map": heat, "marked": marked}
    if defects.masks is not None:
        true = torch.from_numpy(defects.masks[_spread(len(defects.masks))])[:, None].float()
        rows["true mask"] = torch.cat([torch.zeros(shown_good, *true.shape[1:]), true])
    return rows_of_images({name: _shrunk(images) for name, images in rows.items()})


def _shrunk(x: Tensor) -> Tensor:
    shrink = max(1, round(max(x.shape[2:]) / SHOWN_SIDE))
    return F.avg_pool2d(x, shrink).clamp(0.0, 1.0)


def _spread(count: int) -> list[int]:
    """Some of `count` things, as far apart as they are."""
    return list(range(0, count, max(1, count // SHOWN_DEFECTS)))[:SHOWN_DEFECTS]
