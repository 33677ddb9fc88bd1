"""The development sets of the detector for parts: training images, held-out images and defects."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from training.anomaly.config import AnomalyRecipe
from training.anomaly.detector import Detector
from training.anomaly.learn import CHUNK
from training.anomaly.parts import choose_input
from training.errors import DataError
from training.images.folder import find_images
from training.images.pixels import stack
from training.images.reader import read_image
from training.recipe import load_recipe

SAME_TILE = 120  # frames: between two pictures of one magnetic tile there are fewer
FRAME = re.compile(r"exp(\d)_num_(\d+)")
KEPT_SHARE = 0.4  # of the walls: they have no test folder
KEPT_TILES = 0.15  # of the tiles without any damage


@dataclass(frozen=True)
class Case:
    """A data set. `groups` belong to `taught`, `masks` to `defects`; `settings` are the overrides of a typical user."""

    taught: list[Path]
    groups: list[str]
    good: list[Path]
    defects: list[Path]
    masks: list[Path] | None = None
    settings: tuple[str, ...] = ()


class Shown:
    """The images of a case as a typical user's model sees them, (N, C, H, W): training ones, good ones, defects."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.recipe = load_recipe("anomaly", case.settings, of=AnomalyRecipe)
        self.config = choose_input(case.taught, self.recipe.data)
        self.images = stack([read_image(path, self.config) for path in [*case.taught, *case.good, *case.defects]])
        self.taught, self.good, self.defects = torch.split(
            self.images, [len(case.taught), len(case.good), len(case.defects)]
        )


@torch.no_grad()
def scores_of(detector: Detector, x: Float[Tensor, "n c h w"]) -> NDArray[np.float32]:
    """Return the scores (N,) of pixels in [0, 1]; NaN are ignored."""
    return torch.cat([detector(part)[0] for part in torch.split(x, CHUNK)]).numpy()


def folder_case(folder: Path, masks: str = "", group_of: Callable[[Path], str] = str) -> Case:
    """Read a folder with train/good, test/good and test/DEFECT, and masks of the same names in `masks`/DEFECT.

    `group_of` returns the object of a picture; by default every picture shows another.
    """
    taught, good = find_images(there(folder / "train/good")), find_images(folder / "test/good")
    defects = [
        path for kind in sorted((folder / "test").iterdir()) if kind.name != "good" for path in find_images(kind)
    ]
    of_defects = [folder / masks / path.parent.name / f"{path.stem}.png" for path in defects] if masks else None
    return Case(taught, [group_of(path) for path in taught], good, defects, of_defects)


def strip(path: Path) -> str:
    """Return the strip of fabric that a tile was cut from, of a name like 0001_000_03_x1191."""
    return path.stem.split("_")[0]


def sheet(path: Path) -> str:
    """Return the sheet of paper that a patch was cut from, of a name like PA_BRG02_RL_S_ND_01_1."""
    return path.stem.rsplit("_", 1)[0]


def module(path: Path) -> str:
    """Return the number of the block of forty cells, neighbours in a module, of a name like cell1640."""
    return str(int(path.stem.removeprefix("cell")) // 40)


def crack_wall(folder: Path, seed: int) -> Case:
    """Read concrete walls without and with cracks."""
    good = find_images(there(folder / "negative"))
    order = np.random.default_rng(seed).permutation(len(good))
    kept = set(order[: round(KEPT_SHARE * len(good))].tolist())
    taught = [path for i, path in enumerate(good) if i not in kept]
    return Case(
        taught, [str(path) for path in taught], [good[i] for i in sorted(kept)], find_images(folder / "positive")
    )


def magnetic_tile(folder: Path, seed: int) -> Case:
    """Read magnetic tiles, each photographed up to six times and never split between training and test.

    Pictures are cropped to their tiles, 0.4 to 2.6 times as wide as high, so they are stretched.
    """
    photos = sorted(there(folder).glob("*/*.jpg"))
    defects = [path for path in photos if path.parent.name != "Free"]
    tile_of = tiles(photos)
    damaged = {tile_of[path] for path in defects}  # also photographed where it shows no defect
    whole = sorted(set(tile_of.values()) - damaged)
    order = np.random.default_rng(seed).permutation(len(whole))
    kept = damaged | {whole[i] for i in order[: round(KEPT_TILES * len(whole))]}
    free = [path for path in photos if path.parent.name == "Free"]
    taught = [path for path in free if tile_of[path] not in kept]
    return Case(
        taught, [str(tile_of[path]) for path in taught], [path for path in free if tile_of[path] in kept], defects,
        [path.with_suffix(".png") for path in defects], ("data.resize=exact", "data.height=256", "data.width=256"),
    )  # fmt: skip


def tiles(paths: Sequence[Path]) -> dict[Path, int]:
    """Return the number of each picture's tile, from names like exp3_num_20409.

    Exposures 1 to 6 of one tile are nearby frames.
    """
    frames = sorted((int(m[2]), int(m[1]), p) for p in paths if (m := FRAME.search(p.name)))
    found: dict[Path, int] = {}
    last_frame, last_exposure, tile = -1, 0, -1
    for frame, exposure, path in frames:
        if tile < 0 or exposure <= last_exposure or frame - last_frame > SAME_TILE:
            tile += 1
        found[path], last_frame, last_exposure = tile, frame, exposure
    return found


def there(folder: Path) -> Path:
    """Return the folder if it exists.

    Raises:
        DataError: The folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


CASES: dict[str, Callable[[Path, int], Case]] = {
    "metal_nut": lambda data, _: folder_case(data / "anomaly/metal_nut"),
    "hexnut": lambda data, _: folder_case(data / "anomaly/hexnut"),
    "aliens": lambda data, _: folder_case(data / "anomaly/aliens"),
    "elpv_poly": lambda data, _: folder_case(data / "anomaly/elpv_poly", group_of=module),
    "paper_brg02": lambda data, _: folder_case(data / "anomaly/paper_brg02", "masks", sheet),
    "paper_brg03": lambda data, _: folder_case(data / "anomaly/paper_brg03", "masks", sheet),
    "fabric_aitex03": lambda data, _: folder_case(data / "anomaly/fabric_aitex03", group_of=strip),
    "hazelnut_toy": lambda data, _: folder_case(data / "hazelnut_toy", "ground_truth"),
    "crack_wall": lambda data, seed: crack_wall(data / "crack_wall", seed),
    "magnetic_tile": lambda data, seed: magnetic_tile(data / "magnetic_tile", seed),
}
# Good and broken nuts were photographed on other days in other light: any AUROC flatters. Only false alarms count.
NO_RANKING = ("hexnut",)
