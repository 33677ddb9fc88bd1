"""Random numbers by step: see docs/decisions/0003-randomness-by-step.md.

All random numbers of a step come from a generator seeded by (seed, step), and the order of an epoch from (seed, epoch).
So a resumed run ends with the same weights as an uninterrupted one, and several processes, which all draw the whole
batch and keep their share of it, take the same steps as one.
"""

import hashlib
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

VALIDATION_STEP = 2**62  # a step that no training reaches, so validation has noise of its own


def generator_for(seed: int, step: int) -> Generator:
    """Return the random number generator of a step."""
    digest = hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@lru_cache(maxsize=1)
def epoch_order(images: int, seed: int, epoch: int) -> Int64[Tensor, " images"]:
    """Return the order of the images in one epoch."""
    return torch.randperm(images, generator=generator_for(seed, -1 - epoch))


def uniform_noise(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw numbers in [0, 1) from a separate stream, seeded by `generator`."""
    own = Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return torch.rand(shape, generator=own)
