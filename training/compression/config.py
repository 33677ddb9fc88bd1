"""Recipes for models that compress."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from service.contract.fields import Name
from service.contract.manifest import Task
from training.config import ArchitectureConfig, DataConfig, OptimisationConfig, Section, Share


class CompressionTraining(OptimisationConfig):
    """The training loop over images of one size. The prior has its own learning rate, to follow the encoder."""

    muon_learning_rate: PositiveFloat = 1.5e-2
    """Peak learning rate of Muon."""
    prior_learning_rate: PositiveFloat = 2e-2
    """Learning rate of the probabilities of symbols."""
    batch_size: PositiveInt = 256
    """Images in a batch, over all processes."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16 is faster on CPUs with AVX512-BF16 or AMX and on GPUs, slower elsewhere."""
    gradient_clip: Annotated[float, Field(ge=0.0)] = 0.0
    """Maximum norm of the gradient, which is large since the loss is a sum over pixels; 0 turns it off."""
    warmup_share: Share = 0.03
    """Share of the steps for the warm-up."""
    epochs: PositiveInt = 20
    """Passes over the training images."""


class CompressionRecipe(Section):
    """A recipe for a codec with several rates.

    `lambdas` has one entry per rate, falling: the price of a bit in squared error, summed over an image with pixels in
    [0, 1]. Large values give small files.
    """

    kind: Literal["compress"]
    """Kind of model; see docs/training.md."""
    name: Name
    """The model's name: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit. `--name` sets it."""
    summary: str
    """One line for its card."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which it is the default model."""
    architecture: ArchitectureConfig
    lambdas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=64)]
    """One per rate, falling: how much squared error, summed over an image of pixels in [0, 1], a bit may cost. Large
    ones make small files.
    """
    default_rate: Annotated[int, Field(ge=0)] = 0
    """Index of the rate used if a request names none, from 0."""
    images_per_file: PositiveInt = 100
    """Images in a file when bytes per image are measured."""
    data: DataConfig = DataConfig()
    training: CompressionTraining = CompressionTraining()
    limits: tuple[str, ...] = ()
    """Sentences for the card about its limits."""

    @model_validator(mode="after")
    def _rates(self) -> "CompressionRecipe":
        if list(self.lambdas) != sorted(set(self.lambdas), reverse=True):
            raise ValueError(f"lambdas are {list(self.lambdas)}; each must be smaller than the one before")
        if self.default_rate >= len(self.lambdas):
            raise ValueError(f"default_rate is {self.default_rate}, but there are {len(self.lambdas)} lambdas")
        return self
