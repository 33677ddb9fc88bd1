"""A recipe: everything that decides how a model is made, as one TOML file with defaults that work.

[section]
field = value        any of them can be overridden on the command line as `section.field=value`
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
)

from service.contract.manifest import Name, Task

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
PartShare = Annotated[float, Field(gt=0.0, lt=1.0)]  # every part is used: validated on, calibrated on, measured on


def _counts_or_matches(value: int | str) -> int | str:
    if isinstance(value, str) and not value.isdecimal():
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is neither a number nor a regular expression: {error}") from error
    elif int(value) < 1:
        raise ValueError("at least one picture has to be kept back")
    return value


# How many pictures are kept back to validate on, or a regular expression of their names.
Validation = Annotated[int | str, AfterValidator(_counts_or_matches)]


class RecipeError(ValueError):
    """A recipe or an override that cannot be used; the message says which and what would work."""


class Section(BaseModel):
    """A part of a recipe: it refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArchitectureConfig(Section):
    """Which network. `options` are the keyword arguments of its class, see `python -m training --help`."""

    name: str
    options: dict[str, JsonValue] = {}


class DataConfig(Section):
    """Which images, and how they are brought to one size and cut into parts that share no image.

    `licence` goes on the model's card; MNIST's own is known.
    """

    source: Literal["mnist", "folder"] = "folder"
    licence: str = ""
    channels: Literal[1, 3] = 3
    height: PositiveInt = 64
    width: PositiveInt = 64
    resize: Literal["exact", "fit", "reject"] = "fit"
    validation_share: PartShare = 0.05
    calibration_share: PartShare = 0.05
    test_share: PartShare = 0.1  # ignored where the data set has its own test part (MNIST)


class AugmentationConfig(Section):
    """How far training images are moved before they are corrupted; off while `share` is 0. See `augmentation.py`."""

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    rotate_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 8.0
    scale: Share = 0.08
    shear: Share = 0.1
    shift_pixels: Annotated[float, Field(ge=0.0)] = 1.0


class CorruptionConfig(Section):
    """What the network is trained to undo. `clean_share` of the images stay clean, so encoding clean ones works."""

    name: str = "gaussian"
    options: dict[str, JsonValue] = {}
    clean_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25


class RegularisationConfig(Section):
    """What is asked of the latents beside a good reconstruction: `none`, `l1`, `l2`, `contractive` or `kl`.

    `strength` times the penalty is added to the loss. `sigma` is that of `kl` alone: the noise on the latents while
    training. See `regularisation.py`.
    """

    name: str = "none"
    strength: Annotated[float, Field(ge=0.0)] = 1e-3
    sigma: PositiveFloat = 0.3


class PriorConfig(Section):
    """How `generate` draws latents: by a mixture of Gaussians, `components` of them for every label.

    Without labels there is one mixture of `components` for all images. "auto" takes as many as make latents that were
    held out from the fit most likely. See `prior.py`.
    """

    components: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    is_by_label: bool = True  # where the images have labels


class OptimisationConfig(Section):
    """How weights are found.

    Learning rates are peaks: a linear warm-up leads to them. From there a cosine goes to zero over all steps; `wsd`
    (warm-up, stable, decay) stays and falls over the last fifth; `constant` stays.
    """

    loss: str = "mse"
    optimiser: Literal["adam", "muon"] = "muon"
    learning_rate: PositiveFloat = 2e-3  # Adam's: every parameter, or with muon the ones that are no matrix
    muon_learning_rate: PositiveFloat = 2e-2
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup_share: Share = 0.05
    batch_size: PositiveInt = 128
    ema_decay: Share = 0.998  # 0 turns the moving average of the weights off
    precision: Literal["bf16", "fp32"] = "fp32"
    gradient_clip: Annotated[float, Field(ge=0.0)] = 1.0  # largest norm; 0 turns it off
    seed: int = 0


class TrainingConfig(OptimisationConfig):
    """The loop over images of one size."""

    epochs: PositiveInt = 30
    start_from: Path | None = None  # models/<name>/<version>: begin with its weights


class ExportConfig(Section):
    """The graphs that are served. With int8, `calibration_images` training images set the ranges of the activations."""

    precision: Literal["float32", "int8"] = "float32"
    calibration_images: Annotated[int, Field(ge=1)] = 512
    max_loss_rise: Annotated[float, Field(ge=0.0)] = 0.03  # of the validation loss, int8 over float32


class Recipe(Section):
    """One model to be made: which tasks it offers, from which data, by which network and training."""

    kind: Literal["autoencode"] = "autoencode"
    name: Name
    summary: str
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    default_for: tuple[Task, ...] = ()
    target_fpr: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    architecture: ArchitectureConfig
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    corruption: CorruptionConfig = CorruptionConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    prior: PriorConfig = PriorConfig()
    training: TrainingConfig = TrainingConfig()
    export: ExportConfig = ExportConfig()
    limits: tuple[str, ...] = ()
