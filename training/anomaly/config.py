"""Recipes for detectors of anomalies."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from service.contract.fields import Name
from service.contract.manifest import Task
from training.anomaly.learn import DetectorConfig
from training.anomaly.vary import VaryConfig
from training.config import Section

Side = Annotated[int, Field(ge=0)]  # pixels; 0 is chosen from the images


class PartsConfig(Section):
    """The images, their size at the model, and their groups.

    `source` and `licence` go on the model's card.

    If `height` and `width` are 0, the model sees images with their median proportions and the area of a square
    of `size` pixels a side. `resize` "auto" stretches the images if all have nearly those proportions, and pads them
    otherwise.

    `groups` names images of the same object, so that none is scored by a detector that was trained on another one:
    "folder" (images of one sub-folder), a CSV file with the columns file and group, or a regular expression whose
    first group is the same in their file names. Empty: every image is its own group.
    """

    source: str = ""
    """Origin of the images, for the card."""
    licence: str = ""
    """Licence of the images, for the card."""
    channels: Literal["auto", 1, 3] = "auto"
    """1 grey, 3 colour; auto: 1 if all images are grey."""
    size: Annotated[int, Field(ge=16, le=2048)] = 256
    """Side in pixels of the square with the area of the model's input. `--size` sets it."""
    height: Side = 0
    """Pixels, a multiple of 32; 0: from `size` and the proportions of most images."""
    width: Side = 0
    """Pixels, a multiple of 32; 0: as `height`."""
    resize: Literal["auto", "exact", "fit"] = "auto"
    """exact stretches, fit pads; auto: exact if all have nearly the same proportions."""
    look: str = ""
    """Mask of the region of interest, white inside, with the proportions of the images. `--look` sets it."""
    groups: str = ""
    """Which images belong together: `folder`, a CSV file with the columns file and group, or a regular expression whose
    first group is the same in their names.
    """

    @model_validator(mode="after")
    def _both_or_neither(self) -> "PartsConfig":
        if bool(self.height) != bool(self.width):
            raise ValueError(f"height={self.height} and width={self.width}: give both, or neither")
        return self


class AnomalyRecipe(Section):
    """A recipe for an anomaly detector trained on normal images alone."""

    kind: Literal["anomaly"]
    """Kind of model; see docs/training.md."""
    name: Name
    """The model's name: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit. `--name` sets it."""
    summary: str
    """One line for its card."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which it is the default model."""
    target_fpr: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Share of normal images that the anomaly threshold may flag."""
    learn_defects: bool = False
    """Let the score also compare with the images of `--defects`, at least 5, if cross-validation finds that better."""
    seed: int = 0
    """Seed of all random numbers."""
    data: PartsConfig = PartsConfig()
    vary: VaryConfig = VaryConfig()
    detector: DetectorConfig = DetectorConfig()
    limits: tuple[str, ...] = ()
    """Sentences for the card about its limits."""
