"""Recipes for detectors of anomalies."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from service.contract.manifest import Name, Task
from training.anomaly.learn import DetectorConfig
from training.config import PartShare, Section, Share

Side = Annotated[int, Field(ge=0)]  # pixels; 0 is chosen from the images


class PartsConfig(Section):
    """Which images, how they are brought to one size, and how they are cut into parts that share none.

    `source` and `licence` go on the model's card.

    Where `height` and `width` are 0 they have the proportions of most of the images and the area of a square of `size`
    pixels a side. `resize` "auto" stretches the images if all have nearly those proportions, and pads them otherwise.

    `groups` says which images show the same thing, so that all of them go into one part: "folder" (those of one
    sub-folder), a CSV file with the columns file and group, or a regular expression whose first group is the same in
    their file names. Empty: every image stands alone.

    `selection_share` of the images decides how scores are weighed, `test_share` is for the figures (with 50 images or
    more). Calibration gets as many as the false-positive rate needs, within the two limits of `calibration_share`.
    """

    source: str = ""
    licence: str = ""
    channels: Literal["auto", 1, 3] = "auto"
    size: Annotated[int, Field(ge=16, le=2048)] = 256
    height: Side = 0
    width: Side = 0
    resize: Literal["auto", "exact", "fit"] = "auto"
    groups: str = ""
    selection_share: PartShare = 0.1
    calibration_share: tuple[PartShare, PartShare] = (0.2, 0.4)
    test_share: Share = 0.1

    @model_validator(mode="after")
    def _both_or_neither(self) -> "PartsConfig":
        if bool(self.height) != bool(self.width):
            raise ValueError(f"height={self.height} and width={self.width}: give both, or neither")
        if self.selection_share + self.calibration_share[1] + self.test_share > 0.8:
            raise ValueError("selection, calibration and test shares leave less than a fifth for training")
        return self


class AnomalyRecipe(Section):
    """A model that says how unusual an image is, learnt from normal images alone."""

    kind: Literal["anomaly"]
    name: Name
    summary: str
    default_for: tuple[Task, ...] = ()
    target_fpr: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    seed: int = 0
    data: PartsConfig = PartsConfig()
    detector: DetectorConfig = DetectorConfig()
    limits: tuple[str, ...] = ()
