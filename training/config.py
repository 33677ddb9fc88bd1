"""A recipe: all options of a model's training, as one TOML file with working defaults.

[section]
field = value        can be overridden on the command line as `section.field=value`
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

from service.contract.fields import Name
from service.contract.manifest import Task

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
PartShare = Annotated[float, Field(gt=0.0, lt=1.0)]  # every part is used: validated on, calibrated on, measured on


def _counts_or_matches(value: int | str) -> int | str:
    if isinstance(value, str) and not value.isdecimal():
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is neither a number nor a regular expression: {error}") from error
    elif int(value) < 0:
        raise ValueError("a number of pictures is 0 or more")
    return value


def _is_not_none(value: int | str) -> int | str:
    if str(value).isdecimal() and not int(value):
        raise ValueError("at least one picture has to be kept back")
    return value


# How many pictures are kept back, 0 or more, or a regular expression of their names.
Held = Annotated[int | str, AfterValidator(_counts_or_matches)]
Validation = Annotated[Held, AfterValidator(_is_not_none)]


class RecipeError(ValueError):
    """A recipe or an override is invalid; the message names it and a valid alternative."""


class Section(BaseModel):
    """A section of a recipe; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ArchitectureConfig(Section):
    """The network. `options` are the keyword arguments of its class; see `python -m training --help`."""

    name: str
    """conv, linear, mlp or unet."""
    options: dict[str, JsonValue] = {}
    """Keyword arguments of its class, for example `latent_dim`."""


class DataConfig(Section):
    """The images, their resizing, and their split into disjoint parts.

    `licence` goes on the model's card; MNIST's own is known.
    """

    source: Literal["mnist", "folder"] = "folder"
    """`folder`, or `mnist` for the four IDX files."""
    licence: str = ""
    """Licence of the images, for the card; MNIST's is known."""
    channels: Literal[1, 3] = 3
    """1 grey, 3 colour."""
    height: PositiveInt = 64
    """Pixels."""
    width: PositiveInt = 64
    """Pixels."""
    resize: Literal["exact", "fit", "reject"] = "fit"
    """`fit` keeps proportions and repeats the edge, `exact` stretches, `reject` skips other sizes."""
    validation_share: PartShare = 0.05
    """Share of the images for validation."""
    calibration_share: PartShare = 0.05
    """Share of the images for calibration of the anomaly threshold."""
    test_share: PartShare = 0.1
    """Share of the images for the figures; ignored if the data set has a test part (MNIST)."""
    groups: str = ""
    """Which images belong together and are never in two parts: `folder`, a CSV file with the columns file and group, or
    a regular expression whose first group is the same in their names.
    """


class AugmentationConfig(Section):
    """Random transforms of training images before the corruption; off if `share` is 0. See `augmentation.py`."""

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the training images to transform at random. Helps against overfitting."""
    rotate_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 8.0
    """Maximum rotation in degrees, in both directions."""
    scale: Share = 0.08
    """Maximum scaling, as a share of the size, up or down."""
    shear: Share = 0.1
    """Maximum shear, as a share of the height."""
    shift_pixels: Annotated[float, Field(ge=0.0)] = 1.0
    """Maximum shift in pixels."""


class CorruptionConfig(Section):
    """The corruption that the network learns to undo. `clean_share` of the images stay clean, for encoding."""

    name: str = "gaussian"
    """gaussian (`mean`, `sigma`), permute (`seed`), rotate (`degrees`), flip, one_of (`names`, `options`: each image
    through one of several) or none.
    """
    options: dict[str, JsonValue] = {}
    """Keyword arguments of its function; pixels are in [0, 1]."""
    clean_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """Share of the training images that stay clean."""


class RegularisationConfig(Section):
    """The regularisation of latents: `none`, `l1`, `l2`, `contractive` or `kl`.

    `strength` times the penalty is added to the loss. `sigma`, for `kl` alone, is the noise on the latents in
    training. See `regularisation.py`.
    """

    name: str = "none"
    """none, l1, l2, contractive or kl."""
    strength: Annotated[float, Field(ge=0.0)] = 1e-3
    """Weight of the penalty in the loss."""
    sigma: PositiveFloat = 0.3
    """For kl: standard deviation of the noise on the latents in training."""


class PriorConfig(Section):
    """The prior that `generate` samples from: a mixture of Gaussians with `components` components per label.

    Without labels, one mixture is fitted to all images. "auto" chooses the number by the likelihood of held-out
    latents. See `prior.py`.
    """

    components: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    """Gaussians in the mixture, for every label where there are labels; fewer where there are few images. `auto`
    doubles them while a held-out fifth of the latents becomes more likely.
    """
    is_by_label: bool = True
    """Whether requests can name a label, if the data set has labels."""


class OptimisationConfig(Section):
    """Options of the optimiser.

    Learning rates are peaks, reached by a linear warm-up. `cosine` then falls to zero over all steps, `wsd` (warm-up,
    stable, decay) falls over the last fifth, and `constant` stays at the peak.
    """

    loss: str = "mse"
    """mse or l1, a mean over pixels."""
    optimiser: Literal["adam", "muon"] = "muon"
    """adam, or muon: Muon for matrices and Adam for the rest."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate of Adam: for all parameters, or with muon for those that are not matrices."""
    muon_learning_rate: PositiveFloat = 2e-2
    """Peak learning rate of Muon."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled from the gradient; times the learning rate per step."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """cosine to zero over all steps; wsd: level, and down over the last fifth; constant."""
    warmup_share: Share = 0.05
    """Share of the steps for the warm-up."""
    batch_size: PositiveInt = 128
    """Images in a batch, over all processes."""
    ema_decay: Share = 0.998
    """Decay of the moving average of the weights, which is exported; 0 turns it off."""
    precision: Literal["bf16", "fp32"] = "fp32"
    """bf16 is faster on CPUs with AVX512-BF16 or AMX and on GPUs, slower elsewhere."""
    gradient_clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Maximum norm of the gradient; 0 turns it off."""
    seed: int = 0
    """Seed of the split, the weights, the order and the noise."""


class TrainingConfig(OptimisationConfig):
    """The training loop over images of one size."""

    epochs: PositiveInt = 30
    """Passes over the training images."""
    start_from: Path | None = None
    """`models/<name>/<version>`: begin with its weights (rounded, if they are int8); the card says so."""


class ExportConfig(Section):
    """Options of the exported graphs. With int8, `calibration_images` training images set the ranges of activations."""

    precision: Literal["float32", "int8"] = "float32"
    """int8 serves two to three times as fast on a CPU with VNNI."""
    calibration_images: Annotated[int, Field(ge=1)] = 512
    """Training images that set the ranges of int8 activations."""
    max_loss_rise: Annotated[float, Field(ge=0.0)] = 0.03
    """Maximum rise of the validation loss by int8, as a share of it."""


class Recipe(Section):
    """A recipe for a model of images of one size: its tasks, data, network and training."""

    kind: Literal["autoencode"] = "autoencode"
    """Kind of model; see docs/training.md."""
    name: Name
    """The model's name: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit. `--name` sets it."""
    summary: str
    """One line for its card."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    """Tasks: denoise, encode, decode, anomaly, generate."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which it is the default model."""
    target_fpr: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Share of normal images that the anomaly threshold may flag."""
    architecture: ArchitectureConfig
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    corruption: CorruptionConfig = CorruptionConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    prior: PriorConfig = PriorConfig()
    training: TrainingConfig = TrainingConfig()
    export: ExportConfig = ExportConfig()
    limits: tuple[str, ...] = ()
    """Sentences for the card about its limits."""
