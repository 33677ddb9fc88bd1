"""The anomaly task as a job for a `Batcher`: the verdict on an image, its map, its mask, or a heat map over it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.contract.likeness import DISTANCE, statistics_of, unlike_in_looks, unlike_in_size
from service.contract.sections import Calibration
from service.errors import InvalidParameter
from service.http.negotiation import negotiate
from service.images.codec import image_types
from service.images.image import Image, Pixels
from service.images.inspect import ImageFile
from service.media_types import JSON_TYPE, NPY_TYPE
from service.models.batcher import Batcher
from service.models.job import Outputs
from service.tasks.anomaly.heatmap import draw_heatmap
from service.tasks.anomaly.ignore import Ignored, read_ignored
from service.tasks.anomaly.regions import find_regions
from service.tasks.anomaly.thresholds import map_threshold, p_value, score_threshold, smallest_rate
from service.tasks.answer import Answer
from service.tasks.cost import Cost, cost_of_reading
from service.tasks.image_input import ImageInput

View = Literal["heatmap", "mask"]
MASK_TYPES = ("image/png", "image/tiff")  # JPEG and WebP would add values between 0 and 1

Map = NDArray[np.float32]


@dataclass(frozen=True)
class _Finding:
    """The result for one image.

    Attributes:
        score: Anomaly score.
        is_anomalous: Whether the score reaches the threshold.
        anomaly_map: Map in the size of the image that was sent, (H, W).
        unlike_training: Ways in which the image differs from the training images.
        level: Threshold of the map; None for a normal image of a model that was calibrated without map peaks.
    """

    score: float
    is_anomalous: bool
    anomaly_map: Map
    unlike_training: list[str]
    level: float | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask of the anomalous regions, (H, W); all False for a normal image."""
        if not self.is_anomalous or self.level is None:
            return np.zeros(self.anomaly_map.shape, np.bool_)
        return self.anomaly_map >= np.float32(self.level)


@dataclass
class Anomaly(ImageInput):
    """x -> score, map (and distance): verdicts with regions as JSON, or the map or mask as an image or array.

    A normal image has no regions. The regions of an anomalous image are where its map reaches the calibrated level. If
    it does not reach that level anywhere, they are where it exceeds the half maximum above its median.

    Attributes:
        max_fpr: False-positive rate of the threshold; None for the model's own.
        review_fpr: False-positive rate of the review threshold, or None.
        view: Kind of image to answer with; None to answer by `accept` alone.
        ignore: Mask that is white where pixels take no part, or None.
    """

    max_fpr: float | None = None
    review_fpr: float | None = None
    view: View | None = None
    ignore: ImageFile | None = None
    threshold: float = field(init=False)
    review_threshold: float = field(init=False)
    map_level: float | None = field(init=False)
    looks: dict[str, NDArray[np.float32]] = field(init=False)
    ignored: Ignored | None = field(init=False)

    def cost(self, files: Sequence[ImageFile], batcher: Batcher) -> Cost:
        """Return the cost of files with the same options as this one. The mask is read for each of them."""
        cost = super().cost(files, batcher)
        if self.ignore is None:
            return cost
        reading = cost_of_reading([self.ignore] * len(files), self.limits)
        return cost._replace(bytes=cost.bytes + reading.bytes, seconds=cost.seconds + reading.seconds)

    @property
    def is_small(self) -> bool:
        """Whether the image is certainly small and there is no mask."""
        return self.ignore is None and super().is_small

    def prepare(self) -> Pixels:
        self.threshold = score_threshold(self._calibration, self.max_fpr)
        self.map_level = map_threshold(self._calibration, self.max_fpr)
        self.review_threshold = self.threshold
        if self.review_fpr is not None:
            self.review_threshold = min(self.threshold, score_threshold(self._calibration, self.review_fpr))
        x = self.read()
        self.media_type = negotiate(self.accept, self._offers(len(x)))
        self.ignored = self._read_ignored()
        if self.ignored is not None:
            x = np.where(self.ignored.canvas, np.float32(np.nan), x)
        self.looks = {} if self._calibration.learnt is None else statistics_of(x)
        return x

    def _read_ignored(self) -> Ignored | None:
        if self.ignore is None:
            return None
        if not self._calibration.takes_nan:
            raise InvalidParameter(
                f"{self.manifest.name}/{self.manifest.version} cannot ignore pixels: its graph was exported without "
                "that; train the model again, or leave out 'ignore'"
            )
        return read_ignored(self.ignore, self.placement, self.limits)

    def finish(self, outputs: Outputs) -> Answer:
        scores, maps = outputs[:2]
        if len(outputs) > 2:
            self.looks[DISTANCE] = outputs[2]
        if self.media_type == NPY_TYPE and self.view != "mask":
            sent = self._restore(maps)
            return self.array(sent if self._is_several else sent[0])
        found = [
            self._look(float(score), anomaly_map, unlike)
            for score, anomaly_map, unlike in zip(scores, maps, self._unlike(len(maps)), strict=True)
        ]
        if self.media_type == NPY_TYPE:
            masks = np.stack([finding.mask for finding in found]).astype(np.uint8)
            return self.array(masks if self._is_several else masks[0])
        verdicts = [self._verdict(finding) for finding in found]
        if self.media_type == JSON_TYPE:
            verdict = {"results": verdicts} if self._is_several else verdicts[0]
            return self.document({**self.head(), **verdict})
        if self.view == "mask":
            levels = np.where(found[0].mask, np.uint8(255), np.uint8(0))
            return self.picture(Image(levels[None, None], is_one_bit=True), value=verdicts[0])
        heatmap = draw_heatmap(self.image, found[0].anomaly_map, found[0].mask, level=found[0].level)
        return self.picture(heatmap, value=verdicts[0])

    def head(self) -> dict[str, object]:
        """Return the common members of a JSON answer: model, thresholds, rate and calibration."""
        calibration = self._calibration
        return {
            **super().head(),
            "threshold": self.threshold,
            "review_threshold": self.review_threshold,
            "max_fpr": calibration.target_fpr if self.max_fpr is None else self.max_fpr,
            "calibration": {"images": len(calibration.scores), "smallest_fpr": smallest_rate(calibration)},
        }

    @property
    def _calibration(self) -> Calibration:
        assert self.manifest.anomaly is not None  # noqa: S101  required in a manifest with the task
        return self.manifest.anomaly

    @property
    def _is_several(self) -> bool:
        return self.image.array_rank == 4

    def _offers(self, count: int) -> tuple[str, ...]:
        pictures = image_types(Image(np.empty((count, 3, *self.image.size), np.uint8)))
        if self.view == "mask":
            return (*(kind for kind in pictures if kind in MASK_TYPES), NPY_TYPE)
        return (*pictures, NPY_TYPE) if self.view else (JSON_TYPE, *pictures, NPY_TYPE)

    def _unlike(self, count: int) -> list[list[str]]:
        """Describe how each image differs from the training images."""
        learnt = self._calibration.learnt
        if learnt is None:
            return [[] for _ in range(count)]
        height, width = self.image.size
        size = unlike_in_size(width, height, learnt.widths, learnt.heights)
        return [
            size + unlike_in_looks({name: float(values[i]) for name, values in self.looks.items()}, learnt.looks)
            for i in range(count)
        ]

    def _restore(self, maps: Map) -> Map:
        """Return maps, (..., H, W), in the size of the image that was sent, 0 where pixels are ignored."""
        sent = self.placement.restore(maps, is_smooth=True)
        return sent if self.ignored is None else np.where(self.ignored.sent, np.float32(0), sent)

    def _look(self, score: float, anomaly_map: Map, unlike: list[str]) -> _Finding:
        is_anomalous, level = score >= self.threshold, self.map_level
        if not is_anomalous and self.media_type == JSON_TYPE:  # the map is not part of the answer
            return _Finding(score, is_anomalous, anomaly_map, unlike, level)
        sent = self._restore(anomaly_map)
        if is_anomalous:
            level = _reached(sent, level)
        return _Finding(score, is_anomalous, sent, unlike, level)

    def _verdict(self, finding: _Finding) -> dict[str, object]:
        regions = []
        if finding.is_anomalous and finding.level is not None:
            for top, left, bottom, right, peak, area in find_regions(finding.anomaly_map, finding.level):
                box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
                regions.append({**box, "area": area, "peak": peak})
        doubtful = finding.score >= self.review_threshold or bool(finding.unlike_training)
        return {
            "score": finding.score,
            "verdict": "anomalous" if finding.is_anomalous else "review" if doubtful else "good",
            "is_anomalous": finding.is_anomalous,
            "p_value": p_value(finding.score, self._calibration.scores),
            "unlike_training": finding.unlike_training,
            "map_threshold": finding.level,
            "regions": regions,
        }


def _reached(anomaly_map: Map, level: float | None) -> float:
    """Return the calibrated level if the map reaches it anywhere, else its half maximum above the median."""
    peak = anomaly_map.max()
    if level is not None and peak >= np.float32(level):
        return level
    # As in "full width at half maximum". The background of a map need not be near 0, so it counts from the median.
    return float((np.median(anomaly_map) + peak) / 2)
