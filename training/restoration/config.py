"""Recipes for pictures of any size."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from service.contract.fields import Name
from service.contract.manifest import Task
from training.config import Held, OptimisationConfig, Section, Share, Validation
from training.restoration.degradations import DEGRADATIONS


class NetworkConfig(Section):
    """Widths and blocks of `Restorer`."""

    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    """Channels of each level, from the top."""
    blocks: tuple[PositiveInt, ...] = (2, 2, 3)
    """Residual blocks of each level, on the way down and again on the way up; once at the lowest."""


class PhotosConfig(Section):
    """The pictures. `validation` is the number of held-out ones, or a regular expression of their names.

    `sizes` are the scales at which training sees each photograph: a smaller one has finer detail per pixel.
    """

    channels: Literal[1, 3] = 3
    """1 grey, 3 colour."""
    licence: str = ""
    """Licence of the pictures, for the card."""
    validation: Validation = 20
    """Number of pictures held out, evenly by name, at most a third; or a regular expression of names."""
    test: Held = 0
    """Number of other pictures held out for the figures alone, or an expression; 0: figures are of validation ones."""
    sizes: tuple[Annotated[float, Field(gt=0.1, le=1.0)], ...] = (1.0, 0.85, 0.7)
    """Scales at which training sees each photograph: a smaller one has finer detail per pixel. Pairs allow only 1."""


def _are_known(kinds: dict[str, float]) -> dict[str, float]:
    if unknown := kinds.keys() - DEGRADATIONS.keys():
        raise ValueError(f"no kind of noise {min(unknown)!r}; there are {', '.join(DEGRADATIONS)}")
    return kinds


class DegradationConfig(Section):
    """Degradation of clean pictures: noise of 0 to `max_sigma` (0-255 units), and proportions of its kinds."""

    max_sigma: Annotated[float, Field(ge=0.0, le=255.0)] = 55.0
    """Strongest noise, as a standard deviation in steps of an 8-bit image."""
    kinds: Annotated[dict[str, Annotated[float, Field(gt=0.0)]], AfterValidator(_are_known)] = Field(
        default={"gaussian": 1.0}, min_length=1
    )
    """Kinds of noise in these proportions; see degradations.py."""
    untold: Share = 0.0
    """Share of the patches without a level, to train a blind network. If above 0, the service passes no level."""


class LevelConfig(Section):
    """The estimator of the noise level, fitted on `patches` patches restored at every level; 0: none."""

    patches: Annotated[int, Field(ge=0)] = 1000
    """Patches for fitting the estimator of the noise level, each restored at every level; 0: no estimator."""


class RestorationTraining(OptimisationConfig):
    """The training loop over patches of `patch` pixels (of the network's input).

    Each patch is the one with the most detail of `candidates`, since much of a photograph is sky or blur.
    """

    loss: Literal["l1", "mse", "psnr", "rmse"] = "l1"
    """l1 or mse, means over pixels; psnr or rmse: mean logarithm or root of each patch's squared error."""
    muon_learning_rate: Annotated[float, Field(gt=0.0)] = 1e-2
    """Peak learning rate of Muon."""
    ema_decay: Share = 0.999
    """Decay of the moving average of the weights, which is exported; 0 turns it off."""
    batch_size: PositiveInt = 32
    """Patches in a batch, over all processes."""
    patch: PositiveInt = 64
    """Pixels of a patch's side, of the network's input."""
    candidates: PositiveInt = 1
    """Patches drawn for each one used, which is the one with the most detail."""
    steps: PositiveInt = 20_000
    """Number of batches."""
    start_from: Path | None = None
    """`models/<name>/<version>`: begin with its weights; the network may be larger."""
    validate_every: PositiveInt = 1000
    """Steps between validations."""


class RestorationRecipe(Section):
    """A recipe for a model of pictures of any size.

    `denoise` adds noise to clean pictures and passes its level to the network; `restore` learns from pairs; `enhance`
    downscales pictures; `blind` learns from noisy pictures alone.
    """

    kind: Literal["denoise", "restore", "enhance", "blind"]
    """Kind of model; see docs/training.md."""
    name: Name
    """The model's name: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit. `--name` sets it."""
    summary: str
    """One line for its card."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which it is the default model."""
    scale: Annotated[int, Field(ge=2, le=8)] = 2
    """For enhance: factor on width and height. `--scale` sets it."""
    network: NetworkConfig = NetworkConfig()
    data: PhotosConfig = PhotosConfig()
    degradation: DegradationConfig = DegradationConfig()
    level: LevelConfig = LevelConfig()  # of denoise
    training: RestorationTraining = RestorationTraining()
    limits: tuple[str, ...] = ()
    """Sentences for the card about its limits."""

    @model_validator(mode="after")
    def _blind_has_no_psnr(self) -> "RestorationRecipe":
        if self.kind == "blind" and self.training.loss in ("psnr", "rmse"):
            raise ValueError(
                f"training.loss={self.training.loss} wants clean pictures, and kind=blind has none; take mse or l1"
            )
        return self

    @property
    def task(self) -> Task:
        """The task of the model."""
        return "enhance" if self.kind == "enhance" else "denoise"

    @property
    def takes_sigma(self) -> bool:
        """Whether the network takes the noise level."""
        return self.kind == "denoise"

    @property
    def factor(self) -> int:
        """Enlargement of the output: 1 except for enhance."""
        return self.scale if self.kind == "enhance" else 1
