"""A folder of images as one tensor: every readable file, resized as the service does."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor
from tqdm import tqdm

from training.config import DataConfig
from training.errors import DataError
from training.images.pixels import Kept, stack, to_pixels
from training.images.reader import SUFFIXES, read_image

READERS = 4  # threads: decoders work without holding the interpreter
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")


@dataclass(frozen=True)
class Skipped:
    """A skipped file and the reason."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class FolderImages:
    """Images of one size, (N, C, H, W), their files, and the skipped files."""

    images: Real[Tensor, "image channel height width"]
    paths: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_images(folder: Path) -> list[Path]:
    """Return all files below `folder` with suffixes of images, in the order of their paths.

    Hidden files and folders, and those of operating systems, are skipped.

    Raises:
        DataError: The folder is missing, or has no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(path for path in visible(folder) if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: no image in it; looked for {', '.join(sorted(SUFFIXES))} in all folders below")
    return paths


def visible(folder: Path) -> Iterator[Path]:
    """Yield all files below `folder`, except hidden ones and those of operating systems and network drives."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(is_of_system(part) for part in path.relative_to(folder).parts):
            yield path


def is_of_system(name: str) -> bool:
    """Return whether a name is that of a hidden file or folder, or one of an operating system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def read_folder(folder: Path, config: DataConfig, *, progress: bool) -> FolderImages:
    """Read all different images below `folder` in the order of their paths.

    Raises:
        DataError: No file has a known suffix, or none can be read.
    """
    return read_files(find_images(folder), config, label=str(folder), progress=progress)


def read_files(paths: Sequence[Path], config: DataConfig, *, label: str, progress: bool) -> FolderImages:
    """Read all different images among some files, in their order; `label` describes them in messages.

    Raises:
        DataError: None can be read, or all are blank.
    """
    found, skipped = read_all(paths, partial(read_image, config=config), label=label, progress=progress)
    images, kept, twins = without_twins(found)
    if not images:
        reasons = "".join(f"\n  {s}" for s in (*skipped, *twins)[:20])
        raise DataError(f"{label}: none of {len(paths)} files can be used:{reasons}")
    refuse_blank(images, label=label)
    return FolderImages(stack(images), kept, tuple(sorted([*skipped, *twins], key=lambda s: s.path)))


def read_all(
    paths: Sequence[Path], read: Callable[[Path], Kept], *, label: str, progress: bool
) -> tuple[list[tuple[Path, Kept]], list[Skipped]]:
    """Read files in order. Return files with their images, and the skipped files."""
    found: list[tuple[Path, Kept]] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(READERS) as pool:
        answers = pool.map(partial(_read_or_reason, read=read), paths)
        bar = tqdm(answers, total=len(paths), desc=f"read {label}", unit="img", disable=not progress)
        for path, answer in zip(paths, bar, strict=True):
            if isinstance(answer, str):
                skipped.append(Skipped(path, answer))
            else:
                found.append((path, answer))
    return found, skipped


def without_twins(found: Iterable[tuple[Path, Kept]]) -> tuple[list[Kept], tuple[Path, ...], list[Skipped]]:
    """Return images without duplicates, with their files, and the duplicates.

    A picture in two parts of the split would make metrics look better than they are.
    """
    first_by_digest: dict[bytes, Path] = {}
    images: list[Kept] = []
    twins = []
    for path, image in found:
        first = first_by_digest.setdefault(digest_of(image), path)
        if first is path:
            images.append(image)
        else:
            twins.append(Skipped(path, f"the same pixels as {first}"))
    return images, tuple(first_by_digest.values()), twins


def digest_of(*images: Kept) -> bytes:
    """Return the digest of one or more images, the same for bytes and for float32 pixels."""
    digest = hashlib.blake2b()
    for image in images:
        digest.update(str(image.shape).encode())
        digest.update(to_pixels(torch.from_numpy(image)).numpy().tobytes())
    return digest.digest()


def refuse_blank(images: Iterable[Kept], *, label: str) -> None:
    """Raise an error if all images are blank.

    Raises:
        DataError: All pixels of every image have one value.
    """
    if all(np.all(image == image.flat[0]) for image in images):
        raise DataError(f"{label}: every picture has one value in all of its pixels; there is nothing to learn")


def _read_or_reason(path: Path, read: Callable[[Path], Kept]) -> Kept | str:
    try:
        return read(path)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
