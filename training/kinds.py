"""Problems by kind of recipe. To add one: its recipe, `problems/<name>.py` with its `Problem`, and its line here."""

from typing import Any

from training.problems.grids import GRIDS
from training.problems.one_size_model import ONE_SIZE
from training.problems.parts import PARTS
from training.problems.pictures import ENHANCE, PAIRS, PICTURES
from training.problems.problem import Problem
from training.problems.rows import ROWS

PROBLEMS: dict[str, Problem[Any, Any]] = {
    "autoencode": ONE_SIZE,
    "denoise": PICTURES,
    "restore": PAIRS,
    "enhance": ENHANCE,
    "blind": PICTURES,
    "compress": ROWS,
    "compress-photos": GRIDS,
    "anomaly": PARTS,
}
