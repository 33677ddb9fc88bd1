"""Images as one tensor, cut into parts that share no image: training, validation, calibration and test."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Real, UInt8
from torch import Tensor

from service.contract.provenance import Split
from training.config import DataConfig, RecipeError
from training.errors import DataError
from training.images.folder import Skipped, read_folder
from training.images.mnist import LICENCE, SOURCE, download, is_mnist, read_idx_folder
from training.images.split import groups_of, split

SMALLEST_DATASET = 8  # images; fewer leave no part with anything to say

Images = Real[Tensor, "_ channel height width"]  # parts differ in length
Labels = UInt8[Tensor, "_"]


@dataclass(frozen=True)
class Dataset:
    """Images of one size in four parts, (N, C, H, W), bytes or pixels, and where they come from.

    `sha256` is over the bytes of all images in reading order. Labels, if the data set has them, are used for metrics
    and for the prior of `generate`, but not to train networks.
    """

    name: str
    source: str
    licence: str
    sha256: str
    train: Images
    validation: Images
    calibration: Images
    test: Images
    skipped: tuple[Skipped, ...] = field(default=())
    train_labels: Labels | None = None
    test_labels: Labels | None = None

    @property
    def split(self) -> Split:
        """Numbers of images in each part."""
        return Split(
            train=len(self.train),
            validation=len(self.validation),
            calibration=len(self.calibration),
            test=len(self.test),
        )

    @property
    def summary(self) -> str:
        """A sentence about the images that were read."""
        return (
            f"{len(self.train)} images for training, {len(self.validation)} for validation, "
            f"{len(self.calibration)} for calibration, {len(self.test)} for the figures"
        )


def load_data(config: DataConfig, path: Path | None, *, seed: int, progress: bool = True) -> Dataset:
    """Read the images of a recipe from the folder `path`; download MNIST if `path` is None.

    Raises:
        DataError: The folder is missing, has fewer than 8 readable images, or a file is damaged.
    """
    if path is not None and not path.is_dir():
        raise DataError(f"--data {path}: no such folder")
    if config.source == "mnist":
        return _load_mnist(config, path or download(), seed)
    if path is None:
        raise DataError(
            "which images? Give --data FOLDER, a folder of PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC files"
        )
    found = read_folder(path, config, progress=progress)
    images, skipped = found.images, found.skipped
    if len(images) < SMALLEST_DATASET:
        raise DataError(
            f"{path}: {len(images)} different readable images, at least {SMALLEST_DATASET} are needed"
            + _reasons(skipped)
        )
    shares = (config.validation_share, config.calibration_share, config.test_share)
    groups = groups_of([file.relative_to(path) for file in found.paths], config.groups)
    train, validation, calibration, test = (images[part] for part in split(groups, shares, seed=seed))
    return Dataset(
        name=path.resolve().name,
        source=f"a folder of {len(images)} images",
        licence=config.licence,
        sha256=_digest(images),
        train=train,
        validation=validation,
        calibration=calibration,
        test=test,
        skipped=skipped,
    )


def _load_mnist(config: DataConfig, folder: Path, seed: int) -> Dataset:
    parts = read_idx_folder(folder)
    size = (config.channels, config.height, config.width)
    if (1, *parts.train.shape[1:]) != size:
        raise DataError(f"{folder}: images are 1x{parts.train.shape[1]}x{parts.train.shape[2]}, the recipe says {size}")
    images, test = parts.train[:, None], parts.test[:, None]  # (N, H, W) -> (N, 1, H, W)
    shares = (config.validation_share, config.calibration_share)
    if config.groups:
        raise RecipeError(f"data.groups={config.groups}: MNIST's images have no names to group by; leave it out")
    parts_of = split(range(len(images)), shares, seed=seed)
    train, validation, calibration = (images[part] for part in parts_of)
    genuine = is_mnist(parts)
    return Dataset(
        name="mnist" if genuine else folder.resolve().name,
        source=SOURCE if genuine else "a folder of IDX files",
        licence=LICENCE if genuine else config.licence,
        sha256=_digest(images, test),
        train=train,
        validation=validation,
        calibration=calibration,
        test=test,
        train_labels=None if parts.train_labels is None else parts.train_labels[parts_of[0]],
        test_labels=parts.test_labels,
    )


def _digest(*parts: Images) -> str:
    sha256 = hashlib.sha256()
    for images in parts:
        sha256.update(images.contiguous().numpy().data)
    return sha256.hexdigest()


def _reasons(skipped: tuple[Skipped, ...]) -> str:
    return "".join(f"\n  skipped {s.path}: {s.reason}" for s in skipped[:20])
