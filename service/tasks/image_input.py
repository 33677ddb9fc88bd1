"""The input of tasks on images: read a file, fit it to the model, and wrap results as an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from service.contract.manifest import Manifest
from service.deadline import Deadline, current_deadline
from service.errors import TooManyPixels
from service.http.encoding import write_json
from service.images.codec import DEFAULT_QUALITY, decode_image, encode_image
from service.images.image import Image, Pixels
from service.images.inspect import ImageFile
from service.images.npy import read_npy_image, write_npy
from service.images.resize import Placement, plan_placement
from service.limits import InputLimits
from service.media_types import JSON_TYPE, NPY_TYPE
from service.models.batcher import Batcher
from service.tasks.answer import Answer
from service.tasks.cost import Cost, cost_of_pictures
from service.tasks.work import OneJob

_SMALL_ARRAY, _SMALL_FILE = 16_384, 65_536  # bytes
_SMALL_IMAGE = 128 * 128  # pixels


def read_image(file: ImageFile, limits: InputLimits, *, max_pixels: int | None = None) -> Image:
    """Read the image of a file, or the images of an array.

    Args:
        file: The file.
        limits: Limits of the request.
        max_pixels: Limit of an image file, if it is not that of `limits`.

    Raises:
        RequestError: The file cannot be read, or exceeds a limit.
    """
    if file.header.kind == "NPY":
        return read_npy_image(file.data, max_pixels=limits.max_pixels, max_images=limits.max_images, form=file.form)
    most = limits.max_pixels if max_pixels is None else max_pixels
    return decode_image(file.data, max_pixels=most, max_frames=limits.max_frames, form=file.form)


@dataclass
class ImageInput(OneJob):
    """Base of tasks that read one file and fit it to the model's channels and size."""

    file: ImageFile
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    image: Image = field(init=False)
    placement: Placement = field(init=False)
    media_type: str = field(init=False)
    deadline: Deadline = field(default_factory=current_deadline, init=False)  # it is read in a thread for several

    is_tiled: ClassVar[bool] = False
    is_answered_by_picture: ClassVar[bool] = False

    def cost(self, files: Sequence[ImageFile], batcher: Batcher) -> Cost:
        """Return the cost of files with the same options as this one."""
        accept = self.accept if self.is_answered_by_picture else JSON_TYPE
        return cost_of_pictures(files, self.manifest, batcher, self.limits, accept=accept)

    @property
    def is_small(self) -> bool:
        """Whether it is an array of at most 16 KiB, or a PNG of at most 64 KiB and 128x128 pixels."""
        kind, size = self.file.header.kind, len(self.file.data)
        if kind == "NPY":
            return size <= _SMALL_ARRAY
        return kind == "PNG" and size <= _SMALL_FILE and (self.file.header.pixels or math.inf) <= _SMALL_IMAGE

    def read(self) -> Pixels:
        """Return the model's input, (N, C, H, W). Sets `image` and `placement`."""
        spec, limits = self.manifest.input, self.limits
        self.image = read_image(self.file, limits)
        self.placement = plan = plan_placement(spec, *self.image.size)
        count, canvas = len(self.image.values), plan.canvas_height * plan.canvas_width
        if count * canvas > max(limits.max_pixels, canvas if spec.height else 0):
            raise TooManyPixels(
                f"{count} x {plan.canvas_width}x{plan.canvas_height} pixels reach the model after "
                f"{plan.description}; the limit is {limits.max_pixels} (setting max_pixels)"
            )
        if self.image.values.size > _SMALL_IMAGE:  # decoding took time, and the conversion takes more
            self.deadline.check()
        return plan.place(self.image.pixels(spec.channels))

    def head(self) -> dict[str, object]:
        """Return the common members of a JSON answer: model, version, and any resizing."""
        head: dict[str, object] = {"model": self.manifest.name, "version": self.manifest.version}
        return head if self.placement.description is None else {**head, "resize": self.placement.description}

    def document(self, value: dict[str, object]) -> Answer:
        return Answer(JSON_TYPE, write_json(value), value, self.placement.description)

    def array(self, value: NDArray[np.float32] | NDArray[np.uint8]) -> Answer:
        return Answer(NPY_TYPE, write_npy(value), value, self.placement.description)

    def picture(
        self, image: Image, *, quality: int = DEFAULT_QUALITY, value: dict[str, object] | None = None
    ) -> Answer:
        content = encode_image(image, self.media_type, quality=quality)
        return Answer(self.media_type, content, value, self.placement.description)
