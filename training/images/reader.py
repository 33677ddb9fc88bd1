"""Reading of image files for training, with the decoder of the service."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from service.contract.manifest import InputSpec
from service.errors import RequestError
from service.images.codec import decode_image
from service.images.formats import EXTENSIONS, FORMATS
from service.images.image import grey
from service.images.resize import plan_placement
from training.config import DataConfig
from training.errors import DataError
from training.images.pixels import Kept

SUFFIXES = frozenset(f".{extension}" for extension in EXTENSIONS)
LARGEST_PIXELS = 89_000_000  # of one file; larger ones are skipped before they are decoded
MOST_FRAMES = 256  # of an animation, or pages; the first one is read
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height


def read_image(path: Path, config: DataConfig) -> Kept:
    """Read an image file at the recipe's channels and size, (C, H, W), resized as the service does.

    Raises:
        DataError: The service would reject the file, or its size with `resize = "reject"`.
        OSError: The file cannot be opened.
    """
    return place(read_pixels(path, config.channels), config)


def read_pixels(path: Path, channels: int) -> Kept:
    """Read an image file, (C, H, W): bytes, or float32 pixels in [0, 1] if it has 16 bits.

    EXIF orientation is applied, alpha dropped, and the colour converted to `channels`.

    Raises:
        DataError: The service would reject the file.
        OSError: The file cannot be opened.
    """
    try:
        image = decode_image(path.read_bytes(), max_pixels=LARGEST_PIXELS, max_frames=MOST_FRAMES)
    except RequestError as error:
        raise DataError(f"cannot be read: {error}") from error
    if image.values.dtype != np.uint8:
        pixels: NDArray[np.float32] = image.pixels(channels)[0]
        return pixels
    values = grey(image.values) if image.channels > channels else image.values
    whole: NDArray[np.uint8] = np.broadcast_to(values[0], (channels, *image.size)).copy()
    return whole


def place(image: Kept, config: DataConfig) -> Kept:
    """Resize an image (C, h, w) to the recipe's height and width by its resize policy, (C, H, W).

    Raises:
        DataError: The image has another size, and the policy is "reject".
    """
    spec = InputSpec(channels=config.channels, height=config.height, width=config.width, resize=config.resize)
    try:
        plan = plan_placement(spec, *image.shape[1:])
    except RequestError as error:
        raise DataError(str(error)) from error
    if plan.is_resized and image.dtype == np.uint8:
        image = image.astype(np.float32) / np.float32(255)
    placed: Kept = plan.place(image[None])[0]  # type: ignore[arg-type]  # bytes that are not resized stay bytes
    return placed


def peek(path: Path) -> tuple[tuple[int, int], bool] | None:
    """Read the displayed width and height of an image file from its header, and whether it is grey.

    Return None if the file is not an image.
    """
    try:
        with PillowImage.open(path, formats=[entry.name for entry in FORMATS]) as image:
            width, height = image.size
            # Of a TIFF, Pillow gives the size after the orientation is applied.
            if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            return (width, height), image.mode in GREY_MODES
    except Exception:  # noqa: BLE001 - decoders raise anything on broken files; who reads the file says why
        return None
