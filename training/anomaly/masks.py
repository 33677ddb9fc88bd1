"""Masks of defects, as annotation tools write them."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from training.config import DataConfig
from training.errors import DataError
from training.images.pixels import to_bytes
from training.images.reader import SUFFIXES, place

CLASSES = 32  # different values; a mask with more of them is soft or lossy, not one of class numbers
NEARLY_ALL = 0.9  # share of the picture; a mask that marks more is probably inverted
WITH_ALPHA = ("LA", "PA", "RGBA")


def find_mask(image: Path, masks: Path) -> Path:
    """Return the mask of an image.

    The mask is a file below `masks` with the image's name, an optional "_mask", and any suffix.

    Args:
        image: Path of the image, relative to the folder of images.
        masks: Folder of masks.

    Raises:
        DataError: The mask is missing.
    """
    for name in (image.stem, f"{image.stem}_mask"):
        for suffix in sorted(SUFFIXES):
            path = masks / image.parent / f"{name}{suffix}"
            if path.is_file():
                return path
    raise DataError(f"--masks {masks}: no mask for {image}; it is called {image.stem}.png or {image.stem}_mask.png")


def read_masks(paths: list[Path], config: DataConfig) -> NDArray[np.bool_]:
    """Return masks at the model's size, (N, H, W), True at defects.

    Raises:
        DataError: A mask cannot be read, or marks no pixel or nearly all.
    """
    found = []
    for path in paths:
        mask = read_mask(path, config)
        if not mask.any():
            raise DataError(f"mask {path} marks no pixel; leave the picture out of --defects, or draw its defect")
        if mask.mean() > NEARLY_ALL:
            raise DataError(f"mask {path} marks {mask.mean():.0%} of the picture; defects must be marked, not the rest")
        found.append(mask)
    return np.stack(found)


def read_mask(path: Path, config: DataConfig) -> NDArray[np.bool_]:
    """Return one mask at the model's size, (H, W).

    Any value except zero marks a defect: white, a class number, a palette index, or alpha if alpha varies. In soft
    masks, with more than 32 different values due to resampling or JPEG, values of at least half the largest do.

    Raises:
        DataError: The mask cannot be read.
    """
    try:
        with Image.open(path) as opened:
            marked = _marked(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"mask {path} cannot be read: {error}") from error
    placed = place(marked[None].astype(np.uint8) * np.uint8(255), config)
    levels = to_bytes(torch.from_numpy(placed))[0].numpy()
    # Half of a pixel of the model must be marked, or, where a small defect nowhere fills a half, as much as any has.
    mask: NDArray[np.bool_] = levels > min(127, int(levels.max()) // 2)
    return mask


def _marked(image: Image.Image) -> NDArray[np.bool_]:
    if image.mode in WITH_ALPHA:
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() != alpha.max():
            return _above(alpha)
        image = image.convert("L" if image.mode == "LA" else "RGB")
    pixels = np.asarray(image)  # of a palette: its indices
    return _above(pixels.max(axis=2) if pixels.ndim == 3 else pixels)


def _above(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    found = np.unique(values)
    level = float(found[-1]) / 2 if len(found) > CLASSES else 0.0
    marked: NDArray[np.bool_] = values.astype(np.float64) > level
    return marked
