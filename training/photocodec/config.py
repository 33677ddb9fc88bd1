"""Recipes for models that compress photographs of any size."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from service.contract.manifest import Name, Task
from training.config import OptimisationConfig, Section, Share, Validation


class LappedConfig(Section):
    """Channels and convolutions of the network behind the transform; see `network.py`."""

    width: PositiveInt = 32
    depth: Annotated[int, Field(ge=2)] = 6


class PlanesConfig(Section):
    """Which pictures. `validation` is how many are kept back and measured, or a regular expression of their names."""

    licence: str = ""
    validation: Validation = 20


class PhotoCodecTraining(OptimisationConfig):
    """The loop over patches of `patch` pixels of planes, half of them luma, half chroma, at a random rate each.

    The transform's kernels and the prior have learning rates of their own: those begin where they are good already, and
    this has to follow.
    """

    optimiser: Literal["adam", "muon"] = "adam"
    learning_rate: PositiveFloat = 2e-3
    kernel_learning_rate: PositiveFloat = 4e-4
    prior_learning_rate: PositiveFloat = 2e-2
    gradient_clip: Annotated[float, Field(ge=0.0)] = 0.0  # the loss is a sum over pixels, its gradients are large
    warmup_share: Share = 0.1
    ema_decay: Share = 0.999
    batch_size: PositiveInt = 16
    patch: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    steps: PositiveInt = 5000
    validate_every: PositiveInt = 500


class PhotoCodecRecipe(Section):
    """One model with several rates.

    `quantisation` has one step per rate, falling, for pixels 0 to 255: a large one gives small files. That of chroma is
    `chroma` times as large. `price` is what a bit may cost in squared steps; ln(2) / 6 = 0.116 where steps are small.
    """

    kind: Literal["compress-photos"]
    name: Name
    summary: str
    default_for: tuple[Task, ...] = ()
    quantisation: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=32)]
    chroma: PositiveFloat = 1.0
    price: PositiveFloat = 0.13
    default_rate: Annotated[int, Field(ge=0)] = 0
    network: LappedConfig = LappedConfig()
    data: PlanesConfig = PlanesConfig()
    training: PhotoCodecTraining = PhotoCodecTraining()
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rates(self) -> "PhotoCodecRecipe":
        if list(self.quantisation) != sorted(set(self.quantisation), reverse=True):
            raise ValueError(f"quantisation is {list(self.quantisation)}; each must be smaller than the one before")
        if self.default_rate >= len(self.quantisation):
            raise ValueError(f"default_rate is {self.default_rate}, but there are {len(self.quantisation)} steps")
        return self

    @property
    def rates(self) -> int:
        """How many there are to choose from."""
        return len(self.quantisation)

    @property
    def steps(self) -> tuple[float, ...]:
        """Of quantisation for pixels in [0, 1]: luma's at every rate, then chroma's."""
        luma = [step / 255.0 for step in self.quantisation]
        return (*luma, *(step * self.chroma for step in luma))
