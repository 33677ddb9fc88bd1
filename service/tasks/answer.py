"""The answer to one file: an image, an array, a JSON document, or a ZIP archive."""

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.http.encoding import write_json
from service.images.codec import encode_animation, encode_image
from service.images.formats import PICTURE_TYPES, extension_of
from service.images.image import Image, Pixels, to_levels
from service.images.npy import write_npy
from service.media_types import NPY_TYPE, ZIP_TYPE

_MAX_STEM = 80  # characters
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest date of a ZIP entry; constant, so that equal input gives equal bytes


@dataclass(frozen=True)
class Entry:
    """A file of an archive. Names come from `entry_name` or constants, so that none contains a path."""

    name: str
    content: bytes


def entry_name(index: int, sent: str | None, extension: str) -> str:
    """Return the name of a result in an archive, such as `007_part.png` for the eighth file, `part.jpg`.

    The number makes names unique and keeps the order. Folders are removed from the client's name, and characters
    other than letters, digits, `.`, `_` and `-`.

    Args:
        index: Index of the file in the request, from 0.
        sent: File name given by the client, or None.
        extension: Extension of the result, without a dot.
    """
    base = re.split(r"[/\\]", sent or "")[-1]
    stem = re.sub(r"[^\w.-]+", "_", base.rpartition(".")[0] or base).strip("._")[:_MAX_STEM]
    return f"{index:03}{stem and '_'}{stem}.{extension}"


def write_zip(entries: Sequence[Entry]) -> bytes:
    """Write a ZIP archive with its files in the given order. They are stored: images do not compress."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            archive.writestr(zipfile.ZipInfo(entry.name, _LONG_AGO), entry.content)
    return file.getvalue()


@dataclass(frozen=True)
class Answer:
    """The result of one file, ready to send.

    Attributes:
        media_type: Media type of `content`.
        content: Body of the answer.
        value: JSON document or array behind `content`, to combine the results of several files; for an image, its
            entry in `results.json`.
        resize: Resizing applied, see `Placement.description`, or None.
        sigma: Noise level used for the image, 0-255 units; None if the model has no such input.
    """

    media_type: str
    content: bytes
    value: dict[str, object] | NDArray[np.float32] | NDArray[np.uint8] | None = None
    resize: str | None = None
    sigma: float | None = None


def draw(
    x_hat: Pixels, media_type: str, *, is_single: bool, notes: Sequence[dict[str, object]] | None = None
) -> Answer:
    """Encode generated images as one of `image_offers`.

    Args:
        x_hat: Images, (N, C, H, W), in [0, 1].
        media_type: Media type chosen by `negotiate`.
        is_single: Answer with one image instead of an array or archive of one.
        notes: Entry of each image in `results.json`, if the answer is a ZIP archive.
    """
    if media_type == NPY_TYPE:
        return Answer(NPY_TYPE, write_npy(x_hat[0] if is_single else x_hat))
    kind = "image/png" if media_type == ZIP_TYPE else media_type
    answers = [draw_one(Image(to_levels(x[None], np.uint8)), kind) for x in x_hat]
    if is_single:
        return answers[0]
    names = [f"{i:03}.{extension_of(kind)}" for i in range(len(answers))]
    entries = [Entry(name, answer.content) for name, answer in zip(names, answers, strict=True)]
    if notes is not None:
        rows = [{"file": name, **note} for name, note in zip(names, notes, strict=True)]
        entries.append(Entry("results.json", write_json(rows)))
    return Answer(ZIP_TYPE, write_zip(entries))


def draw_one(image: Image, media_type: str) -> Answer:
    """Encode one image as one of its `image_types`."""
    return Answer(media_type, encode_image(image, media_type))


def draw_animation(x_hat: Pixels, media_type: str) -> Answer:
    """Encode images (N, C, H, W) in [0, 1] as an animation, one of `ANIMATION_TYPES`."""
    return Answer(media_type, encode_animation(to_levels(x_hat, np.uint8), media_type))


def image_offers(*, is_single: bool) -> tuple[str, ...]:
    """Return the media types for one image or array, or for a ZIP archive of images (PNG by default) or an array."""
    return (*PICTURE_TYPES, NPY_TYPE) if is_single else (ZIP_TYPE, *PICTURE_TYPES, NPY_TYPE)
