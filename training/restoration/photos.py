"""Whole photographs as bytes, in three parts that share none."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from service.contract.manifest import Split
from training.errors import DataError
from training.folder import find_images, read_or_reason

LEAST_PHOTOS = 3

Photo = UInt8[Tensor, "_ _ _"]  # (C, H, W)


@dataclass(frozen=True)
class Pair:
    """A picture as it comes and as it should be; the same where the degradation is made in training."""

    name: str
    degraded: Photo
    clean: Photo


@dataclass(frozen=True)
class Photos:
    """Pictures of any sizes. `sha256` is over names, sizes and bytes of all, in order."""

    name: str
    sha256: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    skipped: tuple[str, ...]

    @property
    def count(self) -> int:
        """Pictures in both parts."""
        return len(self.train) + len(self.validation)

    @property
    def split(self) -> Split:
        """How many pictures are in which part; training watches those kept back, which makes them validation."""
        return Split(train=len(self.train), validation=len(self.validation), calibration=0, test=0)

    @property
    def summary(self) -> str:
        """What was read."""
        return f"{len(self.train)} pictures for training, {len(self.validation)} for validation"


def read_photos(folder: Path, channels: int, *, validation: int | str, least_side: int, progress: bool) -> Photos:
    """All different pictures below `folder`, every k-th in the order of their names for validation.

    Args:
        folder: Searched with its folders.
        channels: 1 makes them grey (ITU-R BT.601), 3 colour.
        validation: How many to keep back, at most a third; or a regular expression of names, so that what belongs
            together stays together.
        least_side: Smaller pictures are skipped.
        progress: Show a bar.

    Raises:
        DataError: No such folder, or fewer than three pictures.
    """
    paths = _paths(folder)
    found, skipped = [], []
    for path in tqdm(paths, desc="read", unit="photo", disable=not progress):
        photo = _read(path, channels)
        if isinstance(photo, str) or min(photo.shape[1:]) < least_side:
            skipped.append(f"{path}: {photo if isinstance(photo, str) else f'smaller than {least_side} pixels'}")
        else:
            found.append(Pair(str(path.relative_to(folder)), photo, photo))
    return _parts(folder.resolve().name, found, skipped, validation)


def read_pairs(
    noisy: Path, clean: Path, channels: int, *, validation: int | str, least_side: int, progress: bool
) -> Photos:
    """Pictures of the same relative name in two folders.

    Args:
        noisy: What comes in.
        clean: What should come out.
        channels: 1 or 3.
        validation: As in `read_photos`.
        least_side: Smaller pictures are skipped.
        progress: Show a bar.

    Raises:
        DataError: No such folder, fewer than three pairs, or a pair of two sizes.
    """
    found, skipped = [], []
    for path in tqdm(_paths(noisy), desc="read", unit="pair", disable=not progress):
        other = clean / path.relative_to(noisy)
        if not other.is_file():
            skipped.append(f"{path}: there is no {other}")
            continue
        degraded, target = _read(path, channels), _read(other, channels)
        if isinstance(degraded, str) or isinstance(target, str):
            skipped.append(f"{path}: {degraded if isinstance(degraded, str) else target}")
            continue
        if degraded.shape != target.shape:
            raise DataError(f"{path} is {_size(degraded)} and {other} is {_size(target)}; a pair has one size")
        if min(degraded.shape[1:]) < least_side:
            skipped.append(f"{path}: smaller than {least_side} pixels")
        else:
            found.append(Pair(str(path.relative_to(noisy)), degraded, target))
    return _parts(noisy.resolve().name, found, skipped, validation)


def _parts(name: str, found: list[Pair], skipped: list[str], validation: int | str) -> Photos:
    pairs = _without_twins(found, skipped)
    if len(pairs) < LEAST_PHOTOS:
        reasons = "".join(f"\n  skipped {reason}" for reason in skipped[:20])
        raise DataError(f"{name}: {len(pairs)} usable pictures, at least {LEAST_PHOTOS} are needed{reasons}")
    if isinstance(validation, str) and not validation.isdecimal():
        kept = {i for i, pair in enumerate(pairs) if re.search(validation, pair.name)}
        if not kept or len(kept) == len(pairs):
            raise DataError(f"data.validation={validation!r} matches {len(kept)} of {len(pairs)} names")
    else:
        count = min(int(validation), len(pairs) // 3)
        kept = {round((i + 0.5) * len(pairs) / count - 0.5) for i in range(count)} if count else set()
    sha256 = hashlib.sha256()
    for pair in pairs:
        for photo in (pair.degraded, pair.clean):
            sha256.update(f"{pair.name} {tuple(photo.shape)}".encode())
            sha256.update(photo.contiguous().numpy().data)
    return Photos(
        name=name,
        sha256=sha256.hexdigest(),
        train=tuple(pair for i, pair in enumerate(pairs) if i not in kept),
        validation=tuple(pair for i, pair in enumerate(pairs) if i in kept),
        skipped=tuple(skipped),
    )


def _without_twins(pairs: list[Pair], skipped: list[str]) -> list[Pair]:
    """Pairs whose pixels come once; the others are added to `skipped`, as they could stand in two parts."""
    first_by_digest: dict[bytes, Pair] = {}
    for pair in pairs:
        digest = hashlib.blake2b(f"{tuple(pair.clean.shape)}".encode())
        for photo in (pair.degraded, pair.clean):
            digest.update(photo.contiguous().numpy().data)
        first = first_by_digest.setdefault(digest.digest(), pair)
        if first is not pair:
            skipped.append(f"{pair.name}: the same pixels as {first.name}")
    return list(first_by_digest.values())


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return find_images(folder)


def _read(path: Path, channels: int) -> Photo | str:
    pixels = read_or_reason(path, channels)
    return pixels if isinstance(pixels, str) else torch.from_numpy(pixels)


def _size(photo: Photo) -> str:
    return f"{photo.shape[2]}x{photo.shape[1]}"
