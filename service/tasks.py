"""What tasks are as jobs for a `Batcher`: bytes from a request to the model's rows, and its results to an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.archive import Entry, write_zip
from service.contract.manifest import Manifest
from service.errors import InvalidParameter, TooManyPixels
from service.http.encoding import write_json
from service.http.negotiation import negotiate
from service.images.codec import DEFAULT_QUALITY, decode_image, encode_animation, encode_image, image_types
from service.images.image import Image, Pixels, to_levels
from service.images.inspect import png_size
from service.images.npy import NPY_MAGIC, read_json_latents, read_npy_image, read_npy_latents, write_npy
from service.images.resize import Placement, plan_placement
from service.limits import InputLimits
from service.media_types import EXTENSION_BY_TYPE, JSON_TYPE, NPY_TYPE, ZIP_TYPE, AnimationType, ImageType
from service.models.batcher import Outputs

_SMALL_ARRAY, _SMALL_FILE, _SMALL_LATENT = 16_384, 65_536, 1024  # bytes
_SMALL_IMAGE = 128 * 128  # pixels


def read_image(data: bytes, limits: InputLimits) -> Image:
    """An image file, or an array of one image or several.

    Raises:
        RequestError: It cannot be read, or is too large.
    """
    if data.startswith(NPY_MAGIC):
        return read_npy_image(data, max_pixels=limits.max_pixels, max_images=limits.max_images)
    return decode_image(data, max_pixels=limits.max_pixels, max_frames=limits.max_frames)


@dataclass(frozen=True)
class Options:
    """What a request may say of how an image is restored and written; see `schemas.DenoiseQuery`."""

    sigma: float | None = None
    strength: float = 1.0
    thorough: bool = False
    quality: int = DEFAULT_QUALITY
    metadata: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True)
class Answer:
    """One file's result, ready to send.

    Attributes:
        media_type: Of `content`.
        content: The body.
        value: What `content` was made from, where several results are sent as one: a document or an array. With a
            picture, what else there is to say of it.
        resize: What was done to the image's size, or None.
        sigma: How noisy the image was taken to be, 0-255 units; None where the model does not ask.
    """

    media_type: str
    content: bytes
    value: dict[str, object] | NDArray[np.float32] | NDArray[np.uint8] | None = None
    resize: str | None = None
    sigma: float | None = None


@dataclass
class ImageInput:
    """What every image task does first: read the file, bring it to the model's channels and size."""

    data: bytes
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    image: Image = field(init=False)
    placement: Placement = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """An array of 16 KiB, or a PNG of 64 KiB whose header says 128x128, at most. Others may grow when decoded."""
        if self.data.startswith(NPY_MAGIC):
            return len(self.data) <= _SMALL_ARRAY
        size = png_size(self.data)
        return size is not None and size[0] * size[1] <= _SMALL_IMAGE and len(self.data) <= _SMALL_FILE

    def read(self) -> Pixels:
        """The model's input, (N, C, H, W). Sets `image` and `placement`."""
        spec, limits = self.manifest.input, self.limits
        self.image = read_image(self.data, limits)
        self.placement = plan = plan_placement(spec, *self.image.size)
        count, canvas = len(self.image.values), plan.canvas_height * plan.canvas_width
        if count * canvas > max(limits.max_pixels, canvas if spec.height else 0):
            raise TooManyPixels(
                f"{count} x {plan.canvas_width}x{plan.canvas_height} pixels reach the model after "
                f"{plan.description}; the limit is {limits.max_pixels} (setting max_pixels)"
            )
        return plan.place(self.image.pixels(spec.channels))

    def head(self) -> dict[str, object]:
        """The first members of a JSON answer."""
        head: dict[str, object] = {"model": self.manifest.name, "version": self.manifest.version}
        return head if self.placement.description is None else {**head, "resize": self.placement.description}

    def document(self, value: dict[str, object]) -> Answer:
        return Answer(JSON_TYPE, write_json(value), value, self.placement.description)

    def array(self, value: NDArray[np.float32] | NDArray[np.uint8]) -> Answer:
        return Answer(NPY_TYPE, write_npy(value), value, self.placement.description)

    def picture(
        self, image: Image, *, quality: int = DEFAULT_QUALITY, value: dict[str, object] | None = None
    ) -> Answer:
        kind: ImageType = self.media_type  # type: ignore[assignment]  # negotiate returned one of image_types
        return Answer(kind, encode_image(image, kind, quality=quality), value, self.placement.description)


@dataclass
class Denoise(ImageInput):
    """x -> x_hat: the clean image at the size, mode and depth of the sent one, by a model of one size."""

    options: Options = field(default_factory=Options)

    def prepare(self) -> Pixels:
        if self.options.sigma is not None:
            raise InvalidParameter(
                f"sigma is {self.options.sigma:g}, but {self.manifest.name!r} was trained for noise of one strength; "
                "leave it out"
            )
        if self.options.thorough:
            raise InvalidParameter(
                f"thorough turns pictures of any size, but {self.manifest.name!r} knows images of one size, the right "
                "way up; leave it out"
            )
        x = self.read()
        if self.options.metadata == "drop":
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


@dataclass
class Decode:
    """z -> x_hat: an image per latent; several come as a ZIP of files or as one array."""

    data: bytes
    manifest: Manifest
    limits: InputLimits
    accept: str | None
    is_single: bool = field(init=False)
    media_type: str = field(init=False)

    @property
    def is_small(self) -> bool:
        """One latent or a few."""
        return len(self.data) <= _SMALL_LATENT

    def prepare(self) -> NDArray[np.float32]:
        assert self.manifest.latent is not None  # noqa: S101  the manifest has it wherever it has the task
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


def draw(
    x_hat: Pixels, media_type: str, *, is_single: bool, notes: Sequence[dict[str, object]] | None = None
) -> Answer:
    """Images that a model has drawn, as one of `image_offers`.

    Args:
        x_hat: (N, C, H, W), in [0, 1].
        media_type: What `negotiate` chose.
        is_single: Whether it is one image, and not an array or ZIP of one.
        notes: What `results.json` in a ZIP says of each image.
    """
    if media_type == NPY_TYPE:
        return Answer(NPY_TYPE, write_npy(x_hat[0] if is_single else x_hat))
    kind: ImageType = "image/png" if media_type == ZIP_TYPE else media_type  # type: ignore[assignment]
    answers = [draw_one(Image(to_levels(x[None], np.uint8)), kind) for x in x_hat]
    if is_single:
        return answers[0]
    names = [f"{i:03}.{EXTENSION_BY_TYPE[kind]}" for i in range(len(answers))]
    entries = [Entry(name, answer.content) for name, answer in zip(names, answers, strict=True)]
    if notes is not None:
        rows = [{"file": name, **note} for name, note in zip(names, notes, strict=True)]
        entries.append(Entry("results.json", write_json(rows)))
    return Answer(ZIP_TYPE, write_zip(entries))


def draw_one(image: Image, media_type: str) -> Answer:
    """One image, as one of its `image_types`."""
    kind: ImageType = media_type  # type: ignore[assignment]  # negotiate returned one of image_types
    return Answer(kind, encode_image(image, kind))


def draw_animation(x_hat: Pixels, media_type: str) -> Answer:
    """Images (N, C, H, W) in [0, 1] one after another, as one of `ANIMATION_TYPES`."""
    kind: AnimationType = media_type  # type: ignore[assignment]  # negotiate returned one of ANIMATION_TYPES
    return Answer(kind, encode_animation(to_levels(x_hat, np.uint8), kind))


def image_offers(*, is_single: bool) -> tuple[str, ...]:
    """What an answer of images can be: one image or array, or a ZIP (whose files are PNG unless Accept says)."""
    return (*EXTENSION_BY_TYPE, NPY_TYPE) if is_single else (ZIP_TYPE, *EXTENSION_BY_TYPE, NPY_TYPE)


def as_sent(image: Image) -> NDArray[np.float32]:
    """Float pixels with as many axes as the array that was sent; (C, H, W) for a file."""
    axes_added = {None: 1, 2: 2, 3: 1, 4: 0}[image.array_rank]
    values: NDArray[np.float32] = image.values.reshape(image.values.shape[axes_added:])
    return values
