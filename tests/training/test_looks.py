"""What good images look like is noted at training, and widened by new ones at calibration."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from service.contract.sections import Learnt
from training.anomaly.looks import joined, looks_of


def test_looks_are_the_ranges_of_sizes_and_statistics(tmp_path: Path) -> None:
    for number, (size, level) in enumerate([((30, 20), 51), ((40, 20), 102)]):
        Image.fromarray(np.full(size[::-1], level, np.uint8)).save(tmp_path / f"{number}.png")
    images = torch.tensor([51, 102], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 8, 8)

    found = looks_of(sorted(tmp_path.iterdir()), images)

    assert (found.widths, found.heights) == ((30, 40), (20, 20))
    np.testing.assert_allclose(found.looks["brightness"], (0.2, 0.4), rtol=1e-6)
    assert set(found.looks) == {"brightness", "contrast", "sharpness"}


def test_what_either_has_seen_is_known() -> None:
    one = Learnt(widths=(10, 20), heights=(5, 5), looks={"brightness": (0.1, 0.3)})
    other = Learnt(widths=(15, 30), heights=(4, 5), looks={"brightness": (0.2, 0.4)})

    assert joined(one, other) == Learnt(widths=(10, 30), heights=(4, 5), looks={"brightness": (0.1, 0.4)})
    assert joined(None, other) == other
