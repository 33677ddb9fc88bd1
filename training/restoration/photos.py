"""Whole photographs, split into disjoint parts."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Real
from torch import Tensor

from service.contract.provenance import Split
from training.errors import DataError
from training.images.folder import Skipped, digest_of, find_images, read_all, refuse_blank
from training.images.pixels import Kept
from training.images.reader import read_pixels
from training.images.split import keep_back

LEAST_PHOTOS = 3

Photo = Real[Tensor, "_ _ _"]  # (C, H, W), bytes or pixels


@dataclass(frozen=True)
class Pair:
    """Input and target of a picture; the same picture if training adds the degradation."""

    name: str
    degraded: Photo
    clean: Photo


@dataclass(frozen=True)
class Photos:
    """Pictures of any size. `sha256` is over names, sizes and bytes of all, in order."""

    name: str
    sha256: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    skipped: tuple[Skipped, ...]
    test: tuple[Pair, ...] = ()

    @property
    def count(self) -> int:
        """Number of pictures in all parts."""
        return len(self.train) + len(self.validation) + len(self.test)

    @property
    def measured(self) -> tuple[tuple[Pair, ...], str]:
        """The pictures for metrics, and the name of their part: test if there is one, else validation."""
        return (self.test, "test") if self.test else (self.validation, "validation")

    @property
    def split(self) -> Split:
        """Numbers of pictures in each part; held-out pictures that training watches are validation."""
        return Split(train=len(self.train), validation=len(self.validation), calibration=0, test=len(self.test))

    @property
    def summary(self) -> str:
        """A sentence about the pictures that were read."""
        parts = {"for training": self.train, "for validation": self.validation, "for the figures": self.test}
        return ", ".join(f"{len(part)} {use}" for use, part in parts.items()).replace(" ", " pictures ", 1)


def read_photos(
    folder: Path, channels: int, *, validation: int | str, test: int | str = 0, least_side: int, progress: bool
) -> Photos:
    """Read all different pictures below `folder`, every k-th in the order of their names for validation.

    Args:
        folder: Folder, searched recursively.
        channels: 1 for grey (ITU-R BT.601), 3 for colour.
        validation: Number to hold out, at most a third; or a regular expression of names, to keep related pictures
            together.
        test: The same, for the metrics alone; 0 for no test part.
        least_side: Smaller pictures are skipped.
        progress: Show a progress bar.

    Raises:
        DataError: The folder is missing, has fewer than three pictures, or all are blank.
    """
    read = partial(read_pixels, channels=channels)
    found, skipped = read_all(find_images(folder), read, label=str(folder), progress=progress)
    pairs = []
    for path, pixels in found:
        photo = torch.from_numpy(pixels)
        pairs.append((path, Pair(str(path.relative_to(folder)), photo, photo)))
    return _parts(folder.resolve().name, pairs, skipped, kept=(validation, test), least_side=least_side)


def read_pairs(
    noisy: Path,
    clean: Path,
    channels: int,
    *,
    validation: int | str,
    test: int | str = 0,
    least_side: int,
    progress: bool,
) -> Photos:
    """Read pairs of pictures with the same relative name in two folders.

    Args:
        noisy: Folder of inputs.
        clean: Folder of targets.
        channels: 1 for grey, 3 for colour.
        validation: As in `read_photos`. Pairs of one clean picture stay together.
        test: As in `read_photos`.
        least_side: Smaller pictures are skipped.
        progress: Show a progress bar.

    Raises:
        DataError: A folder is missing, there are fewer than three pairs, or the sizes of a pair differ.
    """
    others = {path: clean / path.relative_to(noisy) for path in find_images(noisy)}
    paths = [path for path, other in others.items() if other.is_file()]
    skipped = [Skipped(path, f"there is no {other}") for path, other in others.items() if not other.is_file()]
    read = partial(read_pixels, channels=channels)
    found, broken = read_all(paths, read, label=str(noisy), progress=progress)
    targets, broken_targets = read_all([others[p] for p, _ in found], read, label=str(clean), progress=progress)
    pixels_by_path = dict(targets)
    pairs = []
    for path, pixels in found:
        if others[path] not in pixels_by_path:
            continue
        target = pixels_by_path[others[path]]
        if pixels.shape != target.shape:
            raise DataError(f"{path} is {_size(pixels)} and {others[path]} is {_size(target)}; a pair has one size")
        name = str(path.relative_to(noisy))
        pairs.append((path, Pair(name, torch.from_numpy(pixels), torch.from_numpy(target))))
    return _parts(
        noisy.resolve().name,
        pairs,
        [*skipped, *broken, *broken_targets],
        kept=(validation, test),
        least_side=least_side,
    )


def _parts(
    name: str,
    found: list[tuple[Path, Pair]],
    skipped: list[Skipped],
    *,
    kept: tuple[int | str, int | str],
    least_side: int,
) -> Photos:
    first_by_digest: dict[bytes, Pair] = {}
    clean_of: list[bytes] = []  # the digest of each pair's clean picture
    for path, pair in found:
        if min(pair.clean.shape[1:]) < least_side:
            skipped.append(Skipped(path, f"smaller than {least_side} pixels"))
            continue
        degraded, clean = pair.degraded.numpy(), pair.clean.numpy()
        first = first_by_digest.setdefault(digest_of(degraded, clean), pair)
        if first is pair:
            clean_of.append(digest_of(clean))
        else:
            skipped.append(Skipped(path, f"the same pixels as {first.name}"))
    pairs = list(first_by_digest.values())
    if len(pairs) < LEAST_PHOTOS:
        reasons = "".join(f"\n  skipped {reason}" for reason in skipped[:20])
        raise DataError(f"{name}: {len(pairs)} usable pictures, at least {LEAST_PHOTOS} are needed{reasons}")
    refuse_blank((pair.clean.numpy() for pair in pairs), label=name)
    numbers = range(len(pairs))
    names = [pair.name for pair in pairs]
    tested = keep_back(numbers, names, clean_of, kept[1])
    watched = keep_back([i for i in numbers if i not in tested], names, clean_of, kept[0])
    sha256 = hashlib.sha256()
    for pair in pairs:
        for photo in (pair.degraded, pair.clean):
            sha256.update(f"{pair.name} {tuple(photo.shape)}".encode())
            sha256.update(photo.contiguous().numpy().data)
    return Photos(
        name=name,
        sha256=sha256.hexdigest(),
        train=tuple(pair for i, pair in enumerate(pairs) if i not in watched | tested),
        validation=tuple(pair for i, pair in enumerate(pairs) if i in watched),
        test=tuple(pair for i, pair in enumerate(pairs) if i in tested),
        skipped=tuple(skipped),
    )


def _size(pixels: Kept) -> str:
    return f"{pixels.shape[2]}x{pixels.shape[1]}"
