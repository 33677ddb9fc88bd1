"""/denoise: a single job for a model of one size, a `Restoration` for a model of any size."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from service.contract.manifest import Manifest
from service.errors import InvalidParameter
from service.http.negotiation import negotiate
from service.images.codec import image_types
from service.images.image import Pixels, as_sent
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.media_types import NPY_TYPE
from service.models.job import Outputs
from service.tasks.answer import Answer
from service.tasks.image_input import ImageInput
from service.tasks.restore import Options, Restoration
from service.tasks.work import FileWork


@dataclass
class Denoise(ImageInput):
    """x -> x_hat: the denoised image in the size, mode and depth of the input, by a model of one size."""

    options: Options = field(default_factory=Options)

    is_answered_by_picture: ClassVar[bool] = True

    def prepare(self) -> Pixels:
        if self.options.sigma is not None:
            raise InvalidParameter(
                f"sigma is {self.options.sigma:g}, but {self.manifest.name!r} was trained for noise of one strength; "
                "leave it out"
            )
        if self.options.thorough:
            raise InvalidParameter(
                f"thorough is for models of any size, but {self.manifest.name!r} takes upright images of one size; "
                "leave it out"
            )
        x = self.read()
        if self.options.metadata == "drop" and self.image.exif is not None:
            self.image = replace(self.image, exif=None)
        images = image_types(self.image)
        is_array = self.image.array_rank is not None
        self.media_type = negotiate(self.accept, (NPY_TYPE, *images) if is_array else (*images, NPY_TYPE))
        return x

    def finish(self, outputs: Outputs) -> Answer:
        (x_hat,) = outputs
        result, strength = self.placement.restore(x_hat), self.options.strength
        if strength < 1:
            result = strength * result + (1 - strength) * self.image.pixels(result.shape[1])
        if self.media_type == NPY_TYPE:
            as_floats = replace(self.image, values=np.empty((1, self.image.channels, 1, 1), np.float32))
            return self.array(as_sent(as_floats.with_pixels(result)))
        return self.picture(self.image.with_pixels(result), quality=self.options.quality)


def denoiser(
    file: ImageFile,
    manifest: Manifest,
    limits: InputLimits,
    accept: str | None,
    *,
    options: Options,
) -> FileWork:
    """Return the work that denoises one file with a model."""
    if manifest.input.height is None:
        return Restoration(file, manifest, limits, accept, options)
    return Denoise(file, manifest, limits, accept, options)
