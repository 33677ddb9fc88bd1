"""/generate as a job: draw noise from a seed, and images from the noise by the `generate` graph."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.contract.manifest import Manifest
from service.contract.sections import Generate
from service.errors import InvalidParameter, TooManyImages, TooManyPixels, shown
from service.http.negotiation import negotiate
from service.images.codec import image_types
from service.images.sheet import Sheet, columns_for, draw_sheet
from service.limits import InputLimits
from service.models.job import Inputs, Outputs
from service.tasks.answer import Answer, draw, draw_one, image_offers
from service.tasks.work import OneJob

_NOISE, _LABELS = 0, 1  # random streams of a seed: the choice of labels does not affect the noise


Look = Literal["images", "sheet"]


class GenerateBody(BaseModel):
    """Options of a request to draw images."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: Annotated[int, Field(ge=1, description="Number of images; the limit is the setting max_images")] = 1
    seed: Annotated[
        int | None,
        Field(ge=0, lt=2**53, description="Random seed: equal seeds draw equal images; a new one if null"),
    ] = None
    temperature: Annotated[
        float,
        Field(
            ge=0,
            le=4,
            description="Scale of the noise: 1 as in training, less is more typical, more is more varied",
        ),
    ] = 1.0
    label: Annotated[
        str | None,
        Field(max_length=100, description="Label of all images; as frequent as in training if null"),
    ] = None


@dataclass
class Draw(OneJob):
    """Draw images from a model, as a job for a `Batcher`.

    An image depends only on the seed, its index, the temperature and the label: the batcher of `generate` runs one
    image at a time (`model.py`), so that neither its batch nor other requests change a bit of it.

    Args:
        body: Options of the request.
        seed: Random seed.
        manifest: Manifest of a model with the task.
        limits: Limits of images and pixels.
        accept: The `Accept` header.
        view: Whether to answer with separate images or one sheet.
    """

    body: GenerateBody
    seed: int
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    view: Look
    labels: NDArray[np.int64] | None = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """Whether it is a single image."""
        return self.body.count == 1

    def prepare(self) -> Inputs:
        """Return noise (count, D), and for models with labels the label of each image, (count,)."""
        count, generate = self.body.count, self.manifest.generate
        assert generate is not None  # noqa: S101  required in a manifest with the task
        refuse_too_many(count, self.manifest, self.limits)
        self.labels = choose_labels(self.body.label, count, generate, seed=self.seed, model=self.manifest.name)
        sheet = Sheet.of(self.manifest, count, columns_for(count)) if self.view == "sheet" else None
        offers = image_types(sheet.blank()) if sheet else image_offers(is_single=count == 1)
        self.media_type = negotiate(self.accept, offers)
        dim = self.manifest.tasks["generate"].inputs[0].shape[1]
        e = draw_noise(count, int(dim), seed=self.seed) * np.float32(self.body.temperature)
        return (e,) if self.labels is None else (e, self.labels.astype(np.float32))

    def finish(self, outputs: Outputs) -> Answer:
        """Return the drawn images."""
        x_hat = np.clip(outputs[0], 0.0, 1.0)
        if self.view == "sheet":
            return draw_one(draw_sheet(x_hat, columns_for(len(x_hat))), self.media_type)
        return draw(x_hat, self.media_type, is_single=self.body.count == 1, notes=self._notes())

    def _notes(self) -> list[dict[str, object]]:
        assert self.manifest.generate is not None  # noqa: S101  as above
        if self.labels is None:
            return [{"seed": self.seed} for _ in range(self.body.count)]
        return [{"seed": self.seed, "label": self.manifest.generate.labels[label]} for label in self.labels]


def draw_noise(count: int, dim: int, *, seed: int) -> NDArray[np.float32]:
    """Draw standard normal noise (count, dim). The first rows do not depend on `count`."""
    return np.random.default_rng([_NOISE, seed]).standard_normal((count, dim), np.float32)


def choose_labels(
    label: str | None, count: int, generate: Generate, *, seed: int, model: str
) -> NDArray[np.int64] | None:
    """Choose the label of each image: the requested one, or labels with the frequencies of training.

    Returns:
        Indices of labels, (count,), or None for a model without labels.

    Raises:
        InvalidParameter: The model does not have the requested label.
    """
    labels = generate.labels
    if label is not None and label not in labels:
        known = f"it knows {', '.join(labels)}" if labels else "it draws without labels; leave label out"
        raise InvalidParameter(f"label is {shown(label)}, which model {model!r} cannot generate; {known}")
    if not labels:
        return None
    if label is not None:
        return np.full(count, labels.index(label))
    rng = np.random.default_rng([_LABELS, seed])
    limits = np.cumsum(generate.shares)
    return np.minimum(np.searchsorted(limits, rng.random(count), side="right"), len(labels) - 1)


def refuse_too_many(count: int, manifest: Manifest, limits: InputLimits) -> None:
    """Check the number of images to draw.

    Raises:
        TooManyImages, TooManyPixels: The images exceed a limit.
    """
    if count > limits.max_images:
        raise TooManyImages(f"{count} images were requested, the limit is {limits.max_images} (setting max_images)")
    pixels = count * (manifest.input.height or 1) * (manifest.input.width or 1)
    if count > 1 and pixels > limits.max_pixels:
        raise TooManyPixels(f"{count} images have {pixels} pixels, the limit is {limits.max_pixels} (max_pixels)")
