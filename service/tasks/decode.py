"""/decode as a job: latents to images."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest
from service.errors import TooManyPixels
from service.http.negotiation import negotiate
from service.images.npy import NPY_MAGIC
from service.limits import InputLimits
from service.models.job import Outputs
from service.tasks.answer import Answer, draw, image_offers
from service.tasks.latents import read_json_latents, read_npy_latents
from service.tasks.work import OneJob

_SMALL_LATENT = 1024  # bytes


@dataclass
class Decode(OneJob):
    """z -> x_hat: one image per latent; several as a ZIP archive or array."""

    data: bytes
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    is_single: bool = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """Whether the body holds only a few latents."""
        return len(self.data) <= _SMALL_LATENT

    def prepare(self) -> NDArray[np.float32]:
        assert self.manifest.latent is not None  # noqa: S101  required in a manifest with the task
        manifest, limits, dim = self.manifest, self.limits, self.manifest.latent.dim
        if self.data.startswith(NPY_MAGIC):
            z, self.is_single = read_npy_latents(self.data, dim=dim, max_latents=limits.max_images)
        else:
            z, self.is_single = read_json_latents(
                self.data, dim=dim, max_latents=limits.max_images, model=manifest.name, version=manifest.version
            )
        spec = self.manifest.input
        pixels = len(z) * math.prod((spec.height or 1, spec.width or 1))
        if len(z) > 1 and pixels > limits.max_pixels:
            raise TooManyPixels(f"{len(z)} latents make {pixels} pixels, the limit is {limits.max_pixels} (max_pixels)")
        self.media_type = negotiate(self.accept, image_offers(is_single=self.is_single))
        return z

    def finish(self, outputs: Outputs) -> Answer:
        (x_hat,) = outputs
        x_hat = np.clip(x_hat, 0.0, 1.0)
        return draw(x_hat, self.media_type, is_single=self.is_single)
