"""Whole photographs, in parts that share none."""

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
    skipped: tuple[Skipped, ...]
    test: tuple[Pair, ...] = ()

    @property
    def count(self) -> int:
        """Pictures in all parts."""
        return len(self.train) + len(self.validation) + len(self.test)

    @property
    def measured(self) -> tuple[tuple[Pair, ...], str]:
        """The pictures that figures are of, and what they are called: those that nothing is chosen by, if there are."""
        return (self.test, "test") if self.test else (self.validation, "validation")

    @property
    def split(self) -> Split:
        """How many pictures are in which part; training watches those kept back, which makes them validation."""
        return Split(train=len(self.train), validation=len(self.validation), calibration=0, test=len(self.test))

    @property
    def summary(self) -> str:
        """What was read."""
        parts = {"for training": self.train, "for validation": self.validation, "for the figures": self.test}
        return ", ".join(f"{len(part)} {use}" for use, part in parts.items()).replace(" ", " pictures ", 1)


def read_photos(
    folder: Path, channels: int, *, validation: int | str, test: int | str = 0, least_side: int, progress: bool
) -> Photos:
    """Return all different pictures below `folder`, every k-th in the order of their names for validation.

    Args:
        folder: Searched with its folders.
        channels: 1 makes them grey (ITU-R BT.601), 3 colour.
        validation: How many to keep back, at most a third; or a regular expression of names, so that what belongs
            together stays together.
        test: The same, for the figures alone; 0 keeps none.
        least_side: Smaller pictures are skipped.
        progress: Show a bar.

    Raises:
        DataError: No such folder, fewer than three pictures, or all are blank.
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
    """Return pictures of the same relative name in two folders.

    Args:
        noisy: What comes in.
        clean: What should come out.
        channels: 1 or 3.
        validation: As in `read_photos`. Pairs of one clean picture stay together.
        test: As in `read_photos`.
        least_side: Smaller pictures are skipped.
        progress: Show a bar.

    Raises:
        DataError: No such folder, fewer than three pairs, or a pair of two sizes.
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
