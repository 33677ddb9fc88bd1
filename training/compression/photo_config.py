"""Recipes for models that compress photographs of any size."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from service.contract.fields import Name
from service.contract.manifest import Task
from training.config import Held, OptimisationConfig, Section, Share, Validation


class LappedConfig(Section):
    """Channels and convolutions of the network behind the transform; see `network.py`."""

    width: PositiveInt = 32
    """Channels of the network behind the transform."""
    depth: Annotated[int, Field(ge=2)] = 6
    """Convolutions of the network behind the transform."""


class PlanesConfig(Section):
    """The pictures. `validation` is the number held out for measurement, or a regular expression of their names."""

    licence: str = ""
    """Licence of the pictures, for the card."""
    validation: Validation = 20
    """Number of pictures held out and measured, evenly by name, at most a third; or a regular expression of names."""
    test: Held = 0
    """Number of other pictures held out for the figures alone, or an expression; 0: figures are of validation ones."""


class PhotoCodecTraining(OptimisationConfig):
    """The training loop over patches of `patch` pixels of planes, half luma and half chroma, at random rates.

    The kernels have their own learning rate since they start from a good transform, and the prior since it follows
    the encoder.
    """

    optimiser: Literal["adam", "muon"] = "adam"
    """adam, or muon: Muon for matrices and Adam for the rest."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate of the network behind the transform."""
    kernel_learning_rate: PositiveFloat = 4e-4
    """Learning rate of the transform, which starts from the DCT."""
    prior_learning_rate: PositiveFloat = 2e-2
    """Learning rate of the probabilities of symbols."""
    gradient_clip: Annotated[float, Field(ge=0.0)] = 0.0
    """Maximum norm of the gradient, which is large since the loss is a sum over pixels; 0 turns it off."""
    warmup_share: Share = 0.1
    """Share of the steps for the warm-up."""
    ema_decay: Share = 0.999
    """Decay of the moving average of the weights, which is exported; 0 turns it off."""
    batch_size: PositiveInt = 16
    """Patches in a batch, over all processes: half of luma, half of chroma."""
    patch: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    """Pixels of a patch's side."""
    steps: PositiveInt = 5000
    """Number of batches."""
    validate_every: PositiveInt = 500
    """Steps between validations."""


class PhotoCodecRecipe(Section):
    """A recipe for a codec of photographs with several rates.

    `quantisation` has one step per rate, falling, for pixels 0 to 255. Large steps give small files. The step of chroma
    is `chroma` times as large. `price` is the price of a bit in squared steps; ln(2) / 6 = 0.116 for small steps.
    """

    kind: Literal["compress-photos"]
    """Kind of model; see docs/training.md."""
    name: Name
    """The model's name: up to 63 of a-z, 0-9, - and _, beginning with a letter or digit. `--name` sets it."""
    summary: str
    """One line for its card."""
    default_for: tuple[Task, ...] = ()
    """Tasks for which it is the default model."""
    quantisation: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=32)]
    """A step per rate, falling, for pixels 0 to 255: how coarsely symbols are rounded. Large ones make small files."""
    chroma: PositiveFloat = 1.0
    """The step of chroma, as a multiple of luma's."""
    price: PositiveFloat = 0.13
    """Price of a bit in squared steps in training; ln(2) / 6 = 0.116 for small steps."""
    default_rate: Annotated[int, Field(ge=0)] = 0
    """Index of the rate used if a request names none, from 0."""
    network: LappedConfig = LappedConfig()
    data: PlanesConfig = PlanesConfig()
    training: PhotoCodecTraining = PhotoCodecTraining()
    limits: tuple[str, ...] = ()
    """Sentences for the card about its limits."""

    @model_validator(mode="after")
    def _rates(self) -> "PhotoCodecRecipe":
        if list(self.quantisation) != sorted(set(self.quantisation), reverse=True):
            raise ValueError(f"quantisation is {list(self.quantisation)}; each must be smaller than the one before")
        if self.default_rate >= len(self.quantisation):
            raise ValueError(f"default_rate is {self.default_rate}, but there are {len(self.quantisation)} steps")
        return self

    @property
    def rates(self) -> int:
        """Number of rates."""
        return len(self.quantisation)

    @property
    def steps(self) -> tuple[float, ...]:
        """Quantisation steps for pixels in [0, 1]: luma's at every rate, then chroma's."""
        luma = [step / 255.0 for step in self.quantisation]
        return (*luma, *(step * self.chroma for step in luma))
