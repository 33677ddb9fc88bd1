"""Adam, and Muon for weights that are matrices."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.config import OptimisationConfig


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps: all directions of a weight matrix move at the same pace.

    Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/. torch.optim.Muon takes only 2-D weights; this
    one sees a convolution (out, in, kh, kw) as the matrix (out, in*kh*kw).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype  # of the iteration: bfloat16 is exact enough, and much faster where the processor has it

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: the loop needs none
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])  # Nesterov
                matrix = update.reshape(len(update), -1)
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(orthogonalise(matrix.to(self.dtype)).reshape(p.shape), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """Return the nearest matrix with all singular values near 1 (0.7 to 1.2), by a quintic Newton-Schulz iteration.

    Args:
        matrix: (rows, columns), any scale.
        steps: Iterations; 5 is enough for singular values from 0.01 of the largest.
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # coefficients of Jordan et al., steepest at zero
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix  # the smaller Gram matrix
    x = x / torch.linalg.matrix_norm(x).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: Tensor = x.T if is_tall else x
    return nearest


def build_optimisers(model: nn.Module, config: OptimisationConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers of all parameters: Adam, or Muon for matrices and Adam for the rest."""
    matrices = [p for p in model.parameters() if p.ndim >= 2] if config.optimiser == "muon" else []
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    optimisers: list[torch.optim.Optimizer] = []
    if matrices:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        rate = config.muon_learning_rate
        optimisers.append(Muon(matrices, lr=rate, weight_decay=config.weight_decay, dtype=dtype))
    if others:
        optimisers.append(torch.optim.AdamW(others, lr=config.learning_rate, weight_decay=config.weight_decay))
    return optimisers
