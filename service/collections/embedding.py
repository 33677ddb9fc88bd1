"""Vectors for a collection: images of a request through the encoder that made the others, or latents as they are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.collections.store import MAX_DIM, Encoder
from service.errors import TaskNotOffered
from service.images.image import Pixels
from service.models.job import Outputs
from service.models.model import Model
from service.tasks.image_input import ImageInput


@dataclass(frozen=True)
class Vectors:
    """The vectors of one file.

    Attributes:
        z: (N, D).
        is_single: It was one image or latent, and not an array of them.
        resize: What was done to the image's size, or None.
    """

    z: NDArray[np.float32]
    is_single: bool
    resize: str | None = None


class Embed(ImageInput):
    """x -> z, to be kept or compared; a job for the `Batcher` of `encode`."""

    def prepare(self) -> Pixels:
        return self.read()

    def finish(self, outputs: Outputs) -> Vectors:
        (z,) = outputs
        return Vectors(z, self.image.array_rank != 4, self.placement.description)


def encoder_of(model: Model) -> Encoder:
    """Return the identity of a model for its collections: name, version and checksum of the encoder.

    Raises:
        TaskNotOffered: Its latents are too long for any database here.
    """
    manifest = model.manifest
    assert manifest.latent is not None  # noqa: S101  the manifest has it wherever it has the task
    if manifest.latent.dim > MAX_DIM:
        raise TaskNotOffered(
            f"model {manifest.name!r} has latents of {manifest.latent.dim} numbers; collections take at most {MAX_DIM}"
        )
    return Encoder(manifest.name, manifest.version, manifest.tasks["encode"].sha256, manifest.latent.dim)
