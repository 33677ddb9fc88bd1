"""The learning rate of every step, as a share of its peak."""

import math

from training.config import OptimisationConfig

DECAY_SHARE = 0.2  # of the steps of schedule `wsd`; Hägele et al. find 10 to 20 % as good as a cosine


def learning_rate_factor(step: int, steps: int, config: OptimisationConfig) -> float:
    """Return the share of the peak learning rate at a step: a linear warm-up, then the recipe's `schedule`.

    The decay of `wsd` is 1 - sqrt: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, 2024, https://arxiv.org/abs/2405.18392.
    """
    warmup = config.warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    fall = round((1.0 - DECAY_SHARE) * steps)
    if config.schedule == "constant" or step < fall:
        return 1.0
    return 1.0 - math.sqrt((step - fall) / (steps - fall))


def free_until(steps: int, config: OptimisationConfig) -> int:
    """Return the number of steps whose learning rate does not depend on `steps`."""
    if config.warmup_share or config.schedule == "cosine":
        return 0
    return steps if config.schedule == "constant" else round((1.0 - DECAY_SHARE) * steps)
