"""Recipes for models that compress."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from service.contract.manifest import Name, Task
from training.config import ArchitectureConfig, DataConfig, OptimisationConfig, Section, Share


class CompressionTraining(OptimisationConfig):
    """The loop over images of one size. The prior has a learning rate of its own: it has to follow the encoder."""

    muon_learning_rate: PositiveFloat = 1.5e-2
    prior_learning_rate: PositiveFloat = 2e-2
    batch_size: PositiveInt = 256
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_clip: Annotated[float, Field(ge=0.0)] = 0.0  # the loss is a sum over pixels, its gradients are large
    warmup_share: Share = 0.03
    epochs: PositiveInt = 20


class CompressionRecipe(Section):
    """One model with several rates.

    `lambdas` has one entry per rate, falling: how much squared error, summed over an image of pixels in [0, 1], a bit
    may cost. A large one gives small files.
    """

    kind: Literal["compress"]
    name: Name
    summary: str
    default_for: tuple[Task, ...] = ()
    architecture: ArchitectureConfig
    lambdas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=64)]
    default_rate: Annotated[int, Field(ge=0)] = 0
    images_per_file: PositiveInt = 100
    data: DataConfig = DataConfig()
    training: CompressionTraining = CompressionTraining()
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rates(self) -> "CompressionRecipe":
        if list(self.lambdas) != sorted(set(self.lambdas), reverse=True):
            raise ValueError(f"lambdas are {list(self.lambdas)}; each must be smaller than the one before")
        if self.default_rate >= len(self.lambdas):
            raise ValueError(f"default_rate is {self.default_rate}, but there are {len(self.lambdas)} lambdas")
        return self
