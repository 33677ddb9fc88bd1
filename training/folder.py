"""A folder of anybody's images as one tensor: every readable file, brought to one size as the service does it."""

import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from training.config import DataConfig
from training.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
LARGEST_PIXELS = 89_000_000  # of one file; larger ones are skipped before they are decoded
READERS = 4  # threads: Pillow decodes without holding the interpreter


@dataclass(frozen=True)
class Skipped:
    """A file that gave no image, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class FolderImages:
    """Images of one size, (N, C, H, W), the file of each, and the files that were left out."""

    images: UInt8[Tensor, "image channel height width"]
    paths: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_images(folder: Path) -> list[Path]:
    """All files below `folder` whose names say that they are images, in the order of their paths.

    Raises:
        DataError: There is none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder}: no image in it; looked for {', '.join(sorted(SUFFIXES))} in all folders below")
    return paths


def read_folder(folder: Path, config: DataConfig, *, progress: bool) -> FolderImages:
    """All different images below `folder` in the order of their paths.

    Raises:
        DataError: No file with a known suffix, or none that can be read.
    """
    return read_files(find_images(folder), config, label=str(folder), progress=progress)


def read_files(paths: Sequence[Path], config: DataConfig, *, label: str, progress: bool) -> FolderImages:
    """All different images among some files, in their order; `label` says what they are.

    Raises:
        DataError: None can be read.
    """
    images: list[NDArray[np.uint8]] = []
    kept: list[Path] = []
    skipped: list[Skipped] = []
    first_by_digest: dict[bytes, Path] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(READERS) as pool:
        warnings.simplefilter("ignore")  # Pillow's: broken files are listed below, large ones refused in read_image
        answers = pool.map(lambda path: _read_or_reason(path, config), paths)
        bar = tqdm(answers, total=len(paths), desc=f"read {label}", unit="img", disable=not progress)
        for path, answer in zip(paths, bar, strict=True):
            if isinstance(answer, str):
                skipped.append(Skipped(path, answer))
                continue
            digest = hashlib.blake2b(answer.tobytes()).digest()
            first = first_by_digest.setdefault(digest, path)
            if first is not path:  # the same picture in two parts would make figures look better than they are
                skipped.append(Skipped(path, f"the same pixels as {first}"))
                continue
            images.append(answer)
            kept.append(path)
    if not images:
        reasons = "".join(f"\n  {s.path}: {s.reason}" for s in skipped[:20])
        raise DataError(f"{label}: none of {len(paths)} files can be used:{reasons}")
    return FolderImages(torch.from_numpy(np.stack(images)), tuple(kept), tuple(skipped))


def _read_or_reason(path: Path, config: DataConfig) -> NDArray[np.uint8] | str:
    pixels = read_or_reason(path, config.channels)
    try:
        return pixels if isinstance(pixels, str) else fit(pixels, config)
    except DataError as error:
        return str(error)


def read_or_reason(path: Path, channels: int) -> NDArray[np.uint8] | str:
    """The pixels of a file as `read_pixels` gives them, or why there are none."""
    try:
        return read_pixels(path, channels)
    except DataError as error:
        return str(error)
    except (OSError, ValueError, SyntaxError, NotImplementedError, KeyError, TypeError, EOFError) as error:
        return f"cannot be read: {error}"  # what Pillow raises on broken files
    except Image.DecompressionBombError as error:
        return f"too large: {error}"


def read_image(path: Path, config: DataConfig) -> NDArray[np.uint8]:
    """The image in a file as bytes of the recipe's channels and size: (C, H, W).

    Raises:
        DataError: Another size under `resize = "reject"`, too many pixels, or floating-point ones.
        OSError, ValueError, ...: Whatever Pillow says of a broken file.
    """
    return fit(read_pixels(path, config.channels), config)


def read_pixels(path: Path, channels: int) -> NDArray[np.uint8]:
    """The pixels of a file as bytes: (C, H, W).

    EXIF orientation is applied, alpha dropped, 16-bit grey brought to 8 bits.

    Raises:
        DataError: Too many pixels, or floating-point ones.
        OSError, ValueError, ...: Whatever Pillow says of a broken file.
    """
    with Image.open(path, formats=FORMATS) as opened:
        if opened.width * opened.height > LARGEST_PIXELS:
            raise DataError(f"{opened.width}x{opened.height} pixels, at most {LARGEST_PIXELS} are read")
        if opened.mode == "F":
            raise DataError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("I;16", "I;16B", "I;16L", "I"):
            deep = np.asarray(image, np.float64).clip(0, 65535)
            image = Image.fromarray(np.rint(deep / 257.0).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
        pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)  # (H, W[, C]) -> (C, H, W)
    return pixels.copy()  # Pillow's own memory is read-only


def fit(pixels: NDArray[np.uint8], config: DataConfig) -> NDArray[np.uint8]:
    """`pixels` (C, h, w) at the recipe's height and width by its resize policy: (C, H, W).

    Filtered like the service does (Pillow's Lanczos, which averages when it makes an image smaller), then rounded.
    """
    height, width = pixels.shape[1:]
    if (height, width) == (config.height, config.width):
        return np.ascontiguousarray(pixels)
    if config.resize == "reject":
        raise DataError(f"{width}x{height}, the recipe takes only {config.width}x{config.height}")
    inner_height, inner_width = config.height, config.width
    if config.resize == "fit":
        scale = min(config.height / height, config.width / width)
        inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
    size = (inner_width, inner_height)
    channels = (Image.fromarray(c.astype(np.float32)).resize(size, Image.Resampling.LANCZOS) for c in pixels)
    resized = np.stack([np.asarray(c, np.float32) for c in channels])
    top, left = (config.height - inner_height) // 2, (config.width - inner_width) // 2
    padding = ((0, 0), (top, config.height - inner_height - top), (left, config.width - inner_width - left))
    whole: NDArray[np.float32] = np.pad(resized, padding, mode="edge")
    return whole.round().clip(0, 255).astype(np.uint8)
