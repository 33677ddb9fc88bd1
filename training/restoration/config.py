"""Recipes for pictures of any size."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from service.contract.manifest import Name, Task
from training.config import OptimisationConfig, Section, Share, Validation
from training.restoration.degradations import DEGRADATIONS


class NetworkConfig(Section):
    """Widths and blocks of `Restorer`."""

    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    blocks: tuple[PositiveInt, ...] = (2, 2, 3)


class PhotosConfig(Section):
    """Which pictures. `validation` is how many are kept back, or a regular expression of their names.

    `sizes` are the scales at which training sees each photograph: a smaller one has finer detail per pixel.
    """

    channels: Literal[1, 3] = 3
    licence: str = ""
    validation: Validation = 20
    sizes: tuple[Annotated[float, Field(gt=0.1, le=1.0)], ...] = (1.0, 0.85, 0.7)


def _are_known(kinds: dict[str, float]) -> dict[str, float]:
    if unknown := kinds.keys() - DEGRADATIONS.keys():
        raise ValueError(f"no kind of noise {min(unknown)!r}; there are {', '.join(DEGRADATIONS)}")
    return kinds


class DegradationConfig(Section):
    """How clean pictures are spoiled: noise of 0 to `max_sigma` (0-255 units), its kinds in these proportions."""

    max_sigma: Annotated[float, Field(ge=0.0, le=255.0)] = 55.0
    kinds: Annotated[dict[str, Annotated[float, Field(gt=0.0)]], AfterValidator(_are_known)] = Field(
        default={"gaussian": 1.0}, min_length=1
    )


class LevelConfig(Section):
    """The estimator of the level for whom gives none: fitted on so many `patches`, restored at every level; 0: none."""

    patches: Annotated[int, Field(ge=0)] = 1000


class RestorationTraining(OptimisationConfig):
    """The loop over patches of `patch` pixels (of the network's input).

    Each patch is the one with the most detail of `candidates`: photographs are mostly sky and blur, which teach little.
    """

    loss: Literal["l1", "mse", "psnr"] = "l1"
    muon_learning_rate: Annotated[float, Field(gt=0.0)] = 1e-2
    ema_decay: Share = 0.999
    batch_size: PositiveInt = 32
    patch: PositiveInt = 64
    candidates: PositiveInt = 1
    steps: PositiveInt = 20_000
    start_from: Path | None = None  # models/<name>/<version>: begin with its weights
    validate_every: PositiveInt = 1000


class RestorationRecipe(Section):
    """One model for pictures: what it does to which pictures.

    `denoise` makes its own noise, and the network is told how much; `restore` learns from pairs; `enhance` makes its
    own small pictures; `blind` has noisy pictures only.
    """

    kind: Literal["denoise", "restore", "enhance", "blind"]
    name: Name
    summary: str
    default_for: tuple[Task, ...] = ()
    scale: Annotated[int, Field(ge=2, le=8)] = 2  # of enhance
    network: NetworkConfig = NetworkConfig()
    data: PhotosConfig = PhotosConfig()
    degradation: DegradationConfig = DegradationConfig()
    level: LevelConfig = LevelConfig()  # of denoise
    training: RestorationTraining = RestorationTraining()
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _blind_has_no_psnr(self) -> "RestorationRecipe":
        if self.kind == "blind" and self.training.loss == "psnr":
            raise ValueError("training.loss=psnr wants clean pictures, and kind=blind has none; take mse or l1")
        return self

    @property
    def task(self) -> Task:
        """What the service will offer."""
        return "enhance" if self.kind == "enhance" else "denoise"

    @property
    def takes_sigma(self) -> bool:
        """Whether the network is told how strong the noise is."""
        return self.kind == "denoise"

    @property
    def factor(self) -> int:
        """How much larger the output is: 1 but for enhance."""
        return self.scale if self.kind == "enhance" else 1
