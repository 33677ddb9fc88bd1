"""Good images of parts: their files, their size at the model, and their groups."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Real
from torch import Tensor
from tqdm import tqdm

from service.contract.sections import Learnt
from training.anomaly.backbone import MULTIPLE_OF
from training.anomaly.config import AnomalyRecipe, PartsConfig
from training.anomaly.learn import SMALL_SIDE
from training.anomaly.looks import looks_of
from training.anomaly.masks import read_mask
from training.anomaly.vary import varied
from training.config import DataConfig
from training.errors import DataError
from training.images.dataset import SMALLEST_DATASET
from training.images.folder import Skipped, is_of_system, read_files
from training.images.pixels import stack, to_pixels
from training.images.reader import SUFFIXES, peek, place, read_pixels
from training.images.split import groups_of

SMALL_MULTIPLE_OF = 4  # the autoencoder halves twice
NEARLY = 1.1  # ratio of proportions that stretching does not harm
FEWEST_GROUPS = 2  # one is scored by what the other taught
NOT_GOOD = ("test", "ground_truth")  # folders of MVTec's layout that hold defects and masks

Images = Real[Tensor, "_ channel height width"]
Copies = Real[Tensor, "_ _ channel height width"]


@dataclass(frozen=True)
class Parts:
    """Good images of one size with their groups, and how they were read.

    `sha256` is over the bytes of all images in reading order, `learnt` their ranges of statistics. `copies` are
    varied images, (copies, N, C, H, W).
    """

    name: str
    input: DataConfig
    learnt: Learnt
    sha256: str
    images: Images
    copies: Copies
    look: Bool[Tensor, "rows columns"] | None  # where it is looked at; None: everywhere
    groups: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def read_parts(folder: Path, recipe: AnomalyRecipe, *, progress: bool) -> Parts:
    """Return the good images of a folder.

    Raises:
        DataError: The folder is missing, or has too few readable images.
        RecipeError: `data.groups` cannot be used.
    """
    paths = find_good(folder)
    config = choose_input(paths, recipe.data)
    found = read_files(paths, config, label=shown(folder), progress=progress)
    if len(found.images) < SMALLEST_DATASET:
        raise DataError(
            f"{folder}: {len(found.images)} different readable images, at least {SMALLEST_DATASET} are needed; "
            "a hundred or more make a model that can promise something"
        )
    groups = groups_of([path.relative_to(folder) for path in found.paths], recipe.data.groups)
    if len(set(groups)) < FEWEST_GROUPS:
        raise DataError(
            f"{len(groups)} images in {len(set(groups))} groups: at least {FEWEST_GROUPS}; check data.groups"
        )
    copies = _copies(found.paths, config, recipe, found.images, progress=progress)
    return Parts(
        name=folder.resolve().name,
        input=config,
        learnt=looks_of(found.paths, torch.cat([found.images[None], copies]).flatten(0, 1)),
        sha256=hashlib.sha256(found.images.numpy().tobytes()).hexdigest(),
        images=found.images,
        copies=copies,
        look=_look(recipe.data.look, config),
        groups=tuple(groups),
        skipped=found.skipped,
    )


def _look(file: str, config: DataConfig) -> Bool[Tensor, "rows columns"] | None:
    """Return the region of interest at the model's size; None if the recipe has none."""
    if not file:
        return None
    look = read_mask(Path(file), config)
    if not look.any():
        raise DataError(f"--look {file} is black: nothing would be looked at; make white what counts")
    return torch.from_numpy(look)


def _copies(
    paths: Sequence[Path], config: DataConfig, recipe: AnomalyRecipe, images: Images, *, progress: bool
) -> Copies:
    """Return varied copies of every image, varied before the resize to the model's size."""
    vary = recipe.vary
    if not vary.is_used:
        return images.new_empty((0, *images.shape))
    rng = np.random.default_rng(recipe.seed)
    copies = [
        place(varied(pixels, vary, rng), config)
        for path in tqdm(paths, desc="vary", unit="img", disable=not progress)
        for pixels in [read_pixels(path, config.channels)]
        for _ in range(vary.copies)
    ]
    whole = stack(copies).reshape(len(paths), vary.copies, *images.shape[1:]).transpose(0, 1)
    return whole if whole.dtype == images.dtype else to_pixels(whole)


def find_good(folder: Path) -> list[Path]:
    """Return the files of good images below a folder, in the order of their paths.

    Hidden files and folders, and those of operating systems, are skipped. In a folder with the layout of MVTec AD
    (train/good, test and ground_truth), only train/good is read. The number of files left out is printed.

    Raises:
        DataError: The folder or its images are missing, or good images are beside folders of others.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    inside = {path.name: path for path in folder.iterdir() if path.is_dir() and not is_of_system(path.name)}
    if (folder / "train/good").is_dir():
        tqdm.write(f"{shown(folder)} is laid out like MVTec AD: learning from train/good")
        return find_good(folder / "train/good")
    if other := sorted(name for name in inside if name in NOT_GOOD or ("good" in inside and name != "good")):
        raise DataError(
            f"--data {folder} holds {', '.join(other)}, which may show defects; give the folder of good images alone"
            + (f": --data {folder / 'good'}" if "good" in inside else "")
        )
    files = [path for path in folder.rglob("*") if path.is_file()]
    usable = [path for path in files if not any(is_of_system(part) for part in path.relative_to(folder).parts)]
    paths = sorted(path for path in usable if path.suffix.lower() in SUFFIXES)
    left = Counter(path.suffix.lower() or "no suffix" for path in usable if path.suffix.lower() not in SUFFIXES)
    if hidden := len(files) - len(usable):
        left["hidden, or of the system"] = hidden
    if left:
        tqdm.write(f"left out: {', '.join(f'{count} ({kind})' for kind, count in left.most_common())}")
    if not paths:
        raise DataError(f"{shown(folder)}: no image in it; looked for {', '.join(sorted(SUFFIXES))}")
    return paths


def shown(path: Path) -> str:
    """Return a printable path, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def choose_input(paths: Sequence[Path], config: PartsConfig) -> DataConfig:
    """Choose the size, channels and resize policy for these images, as far as the recipe does not set them.

    Raises:
        DataError: No image can be read.
    """
    headers = [header for path in paths if (header := peek(path))]
    if not headers:
        raise DataError(f"none of {len(paths)} files can be read as an image, {paths[0]} for example")
    sides = np.array([size for size, _ in headers], float)  # (N, 2): width, height
    is_grey = all(is_grey for _, is_grey in headers)
    channels = config.channels if config.channels != "auto" else 1 if is_grey else 3
    proportions = sides[:, 0] / sides[:, 1]
    middle = float(np.exp(np.median(np.log(proportions))))
    height, width = config.height, config.width
    if not height:
        is_small = channels == 1 and float(np.median(sides.max(1))) <= SMALL_SIDE
        side = float(np.sqrt(np.median(sides.prod(1)))) if is_small else config.size
        step = SMALL_MULTIPLE_OF if is_small else MULTIPLE_OF
        height, width = (max(step, step * round(length / step)) for length in (side / middle**0.5, side * middle**0.5))
    resize = config.resize
    if resize == "auto":
        ratio = proportions / middle  # not to the model's sides, which are rounded: stretching all alike does no harm
        resize = "exact" if float(np.maximum(ratio, 1 / ratio).max()) <= NEARLY else "fit"
        if resize == "fit":
            tqdm.write(
                f"mind: width over height is {proportions.min():.2f} to {proportions.max():.2f}, so images are padded; "
                f"if each is cut out along its part, stretch them: data.resize=exact data.height={height} "
                f"data.width={width}"
            )
    return DataConfig(licence=config.licence, channels=channels, height=height, width=width, resize=resize)
