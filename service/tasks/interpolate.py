"""/interpolate as a job: images between two latents."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest
from service.contract.sections import Latent
from service.errors import InvalidLatent
from service.http.negotiation import negotiate
from service.images.codec import image_types
from service.images.formats import ANIMATION_TYPES
from service.images.npy import NPY_MAGIC
from service.images.sheet import Sheet, draw_sheet
from service.limits import InputLimits
from service.media_types import NPY_TYPE, ZIP_TYPE
from service.models.job import Outputs
from service.tasks.answer import Answer, draw, draw_animation, draw_one
from service.tasks.generate import refuse_too_many
from service.tasks.latents import read_json_latents, read_npy_latents
from service.tasks.work import OneJob

Vector = NDArray[np.float32]
Way = Literal["linear", "spherical"]
View = Literal["strip", "frames", "animation"]

_PARALLEL = 1e-6  # smallest sine of an angle: float32 cannot resolve less


@dataclass
class Interpolate(OneJob):
    """Decode the latents between two, as a job for the `Batcher` of `decode`.

    Args:
        ends: Two latents, (2, D), or the body that contains them.
        steps: Number of images, including both ends.
        way: Whether to interpolate linearly or along an arc.
        manifest: Manifest of a model that decodes.
        limits: Limits of images and pixels.
        accept: The `Accept` header.
        view: Layout of the answer; None to choose by `accept` alone.
    """

    ends: bytes | Vector
    steps: int
    way: Way
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    view: View | None
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """Never: there are several images."""
        return False

    def prepare(self) -> Vector:
        """Return the latents, (steps, D)."""
        assert self.manifest.latent is not None  # noqa: S101  required in a manifest with the task
        first, last = self._read(self.ends) if isinstance(self.ends, bytes) else self.ends
        refuse_too_many(self.steps, self.manifest, self.limits)
        strip = image_types(Sheet.of(self.manifest, self.steps, self.steps).blank())
        offers = {
            "strip": strip,
            "frames": (ZIP_TYPE, NPY_TYPE),
            "animation": ANIMATION_TYPES,
            None: (*(kind for kind in strip if kind not in ANIMATION_TYPES), ZIP_TYPE, NPY_TYPE, *ANIMATION_TYPES),
        }[self.view]
        self.media_type = negotiate(self.accept, offers)
        return WAYS[self.way](first, last, np.linspace(0, 1, self.steps), self.manifest.latent)

    def _read(self, data: bytes) -> Vector:
        assert self.manifest.latent is not None  # noqa: S101  as above
        dim, most = self.manifest.latent.dim, self.limits.max_images
        if data.startswith(NPY_MAGIC):
            z, _ = read_npy_latents(data, dim=dim, max_latents=most)
        else:
            model, version = self.manifest.name, self.manifest.version
            z, _ = read_json_latents(data, dim=dim, max_latents=most, model=model, version=version)
        if len(z) != 2:
            raise InvalidLatent(f"{len(z)} latents were sent; send exactly two")
        return z

    def finish(self, outputs: Outputs) -> Answer:
        """Return the interpolated images."""
        x_hat = np.clip(outputs[0], 0.0, 1.0)
        if self.media_type in {ZIP_TYPE, NPY_TYPE}:
            return draw(x_hat, self.media_type, is_single=False)
        if self.media_type in ANIMATION_TYPES and self.view != "strip":
            return draw_animation(x_hat, self.media_type)
        return draw_one(draw_sheet(x_hat, self.steps), self.media_type)


def linear(first: Vector, last: Vector, t: NDArray[np.float64], _: Latent) -> Vector:
    """Interpolate linearly: (1 - t) first + t last, (len(t), D)."""
    return ((1 - t[:, None]) * first + t[:, None] * last).astype(np.float32)


def spherical(first: Vector, last: Vector, t: NDArray[np.float64], latent: Latent) -> Vector:
    """Interpolate along an arc, (len(t), D), after White (2016), "Sampling Generative Networks".

    In many dimensions nearly all latents lie at about the same distance from their mean, and a straight line cuts
    through the empty middle. The arc is around the mean of the training latents, in units of their deviations.

    Raises:
        InvalidLatent: The latents are opposite, so the arc is not unique.
    """
    mean, std = np.array(latent.mean), np.array(latent.std)
    std = np.where(std > 0, std, 1.0)
    u, v = (first - mean) / std, (last - mean) / std
    lengths = float(np.linalg.norm(u)) * float(np.linalg.norm(v))
    cosine = float(u @ v) / lengths if lengths > 0 else 1.0  # interpolate linearly from the mean itself
    angle = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if np.sin(angle) > _PARALLEL:
        a, b = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
    elif cosine > 0:
        a, b = 1 - t, t
    else:
        raise InvalidLatent(
            "the two latents are opposite each other, so no arc leads from one to the other; use linear"
        )
    z: Vector = ((a[:, None] * u + b[:, None] * v) * std + mean).astype(np.float32)
    z[0], z[-1] = first, last  # the ends are exact
    return z


WAYS = {"linear": linear, "spherical": spherical}
