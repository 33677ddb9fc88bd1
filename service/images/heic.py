"""HEIC for Pillow, by the package pillow-heif, which is optional: its decoder and its patents are not everyone's."""

from functools import cache

from service.errors import UnsupportedMediaType


@cache
def prepare() -> None:
    """Let Pillow read HEIC files: the picture alone, in one thread as all others.

    Raises:
        UnsupportedMediaType: The package is not installed.
    """
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415  optional
    except ImportError as error:
        raise UnsupportedMediaType(
            "the image is a HEIC file, which needs the package pillow-heif here: install hourglass-service[heic], or "
            "convert the image to JPEG, PNG or AVIF first"
        ) from error
    register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
