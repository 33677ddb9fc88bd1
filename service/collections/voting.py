"""A label from the labels of the nearest items."""

import math
from collections import defaultdict
from collections.abc import Sequence

from service.collections.store import Neighbour


def vote(neighbours: Sequence[Neighbour]) -> list[tuple[str, float]]:
    """Return each label of the neighbours with its confidence in (0, 1], the most confident first; they sum to 1.

    A neighbour's vote weighs 1 / distance (Dudani, "The distance-weighted k-nearest-neighbor rule", 1976, has this
    weight as (2)). Where some have distance 0 they alone vote. Neighbours without a label have none.
    """
    labelled = [(n.label, n.distance) for n in neighbours if n.label is not None]
    same = [(label, 1.0) for label, distance in labelled if distance == 0]
    nearest = min((distance for _, distance in labelled), default=1.0)
    weights: dict[str, float] = defaultdict(float)
    for label, weight in same or [(label, _weight(nearest, distance)) for label, distance in labelled]:
        weights[label] += weight
    total = sum(weights.values())
    return sorted(((label, weight / total) for label, weight in weights.items()), key=lambda one: (-one[1], one[0]))


def _weight(nearest: float, distance: float) -> float:
    """Return 1 / distance, in units of that of the nearest.

    No weight overflows, and infinite distances are all alike.
    """
    return nearest / distance if math.isfinite(distance) else float(not math.isfinite(nearest))
