"""Selection of the features in the memory bank of nearest neighbours."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

Rows = Float[Tensor, "position feature"]

SHADOW = 48  # numbers in the random projection that distances are compared in: they nearly stay, and cost a quarter
ROUNDS = 32  # of the choice: in each, all distances are brought up to date once
CANDIDATES = 2000  # farthest positions that a round chooses among


def coreset(rows: Rows, entries: int, generator: Generator) -> Float[Tensor, "entry feature"]:
    """Return a coreset of features: greedy k-centre (Roth et al. 2022, section 3.2, arXiv 2106.08265).

    Each step adds the feature farthest from those chosen. Candidates are the farthest 2,000 of a round, so all
    distances are computed 32 times and not once per entry.

    Args:
        rows: Features of all positions, or of as many as fit in memory.
        entries: Size of the coreset; with fewer rows, all are returned.
        generator: Draws the projection and the first entry.
    """
    if len(rows) <= entries:
        return rows
    shadow = rows @ (torch.randn(rows.shape[1], SHADOW, generator=generator) / SHADOW**0.5)
    square = shadow.square().sum(1)
    chosen = torch.randint(len(rows), (1,), generator=generator)
    nearest = torch.full((len(rows),), torch.inf)
    new = chosen
    while True:
        nearest = torch.minimum(nearest, _to_nearest(shadow, square, new))
        left = entries - len(chosen)
        if not left:
            return rows[chosen]
        among = nearest.topk(min(CANDIDATES, len(rows))).indices
        new = among[_greedy(shadow[among], nearest[among], min(left, -(-entries // ROUNDS)))]
        chosen = torch.cat([chosen, new])


def _to_nearest(shadow: Rows, square: Float[Tensor, " position"], entries: Int[Tensor, " entry"]) -> Tensor:
    """Return the squared distance of every position from the nearest of some entries."""
    chunks = zip(torch.split(shadow, 16384), torch.split(square, 16384), strict=True)
    kept, kept_square = shadow[entries], square[entries]
    return torch.cat([((kept_square - 2.0 * (rows @ kept.T)).amin(1) + own).clamp_min(0.0) for rows, own in chunks])


def _greedy(shadow: Rows, nearest: Float[Tensor, " position"], count: int) -> Int[Tensor, " entry"]:
    chosen = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (shadow - shadow[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)
