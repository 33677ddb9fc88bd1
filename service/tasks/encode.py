"""/encode as a job: images to latents."""

from service.http.negotiation import negotiate
from service.images.image import Pixels
from service.media_types import JSON_TYPE, NPY_TYPE
from service.models.job import Outputs
from service.tasks.answer import Answer
from service.tasks.image_input import ImageInput


class Encode(ImageInput):
    """x -> z: the latent of each image."""

    def prepare(self) -> Pixels:
        self.media_type = negotiate(self.accept, (JSON_TYPE, NPY_TYPE))
        return self.read()

    def finish(self, outputs: Outputs) -> Answer:
        (z,) = outputs
        several = self.image.array_rank == 4
        if self.media_type == NPY_TYPE:
            return self.array(z if several else z[0])
        return self.document({**self.head(), "latents": z} if several else {**self.head(), "latent": z[0]})
