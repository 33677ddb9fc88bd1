"""Media types that requests and answers name."""

from typing import Literal, get_args

HOURGLASS_TYPE = "application/vnd.hourglass"
NPY_TYPE = "application/x-npy"
ZIP_TYPE = "application/zip"
FORM_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"
ImageType = Literal["image/png", "image/jpeg", "image/webp", "image/tiff"]
EXTENSION_BY_TYPE: dict[ImageType, str] = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/tiff": "tiff",
}
AnimationType = Literal["image/webp", "image/gif"]
ANIMATION_TYPES: tuple[AnimationType, ...] = get_args(AnimationType)
