"""The network of each task, for export. To add a task: a module and its line in GRAPHS."""

from jaxtyping import Float
from torch import Tensor, nn

from service.contract.manifest import Task
from training.config import RecipeError
from training.prior import Prior

Images = Float[Tensor, "batch channel height width"]


class Encode(nn.Module):
    """x (N,C,H,W) -> z (N,D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Images) -> Float[Tensor, "batch latent"]:
        z: Tensor = self.model.encode(x)  # type: ignore[operator]  # nn.Module types its attributes Tensor | Module
        return z


class Decode(nn.Module):
    """z (N,D) -> x_hat (N,C,H,W), in [0, 1]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Float[Tensor, "batch latent"]) -> Images:
        x_hat: Tensor = self.model.decode(z)  # type: ignore[operator]  # as above
        return x_hat.clamp(0.0, 1.0)


class Denoise(nn.Module):
    """x (N,C,H,W) -> x_hat, in [0, 1]: decode(encode(x)) if there is a latent."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Images) -> Images:
        x_hat: Tensor = self.model(x)
        return x_hat.clamp(0.0, 1.0)


class Generate(nn.Module):
    """e (N,D), standard normal, and label (N,) if the prior has labels -> x_hat (N,C,H,W)."""

    def __init__(self, model: nn.Module, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        self.decode = Decode(model)

    def forward(self, e: Float[Tensor, "batch noise"], label: Float[Tensor, " batch"] | None = None) -> Images:
        x_hat: Tensor = self.decode(self.prior(e, label))
        return x_hat


# `generate` is no line here, as it is made of a prior, too; nor is `anomaly`, whose detector is a network of its own.
GRAPHS: dict[Task, type[nn.Module]] = {"decode": Decode, "denoise": Denoise, "encode": Encode}
NEEDS_LATENT: frozenset[Task] = frozenset({"encode", "decode", "generate"})


def graph_for(task: Task, model: nn.Module, prior: Prior | None = None) -> nn.Module:
    """Return the network that computes `task` with `model`; `generate` samples from `prior`.

    Raises:
        RecipeError: The task needs a latent and the architecture has none.
    """
    check_task(task, model)
    if task == "generate":
        assert prior is not None  # noqa: S101 - fitted by an earlier stage
        return Generate(model, prior).eval()
    return GRAPHS[task](model).eval()


def check_task(task: Task, model: nn.Module) -> None:
    """Check that `model` can compute `task`.

    Raises:
        RecipeError: The task needs a latent and the architecture has none.
    """
    if task in NEEDS_LATENT and model.latent_dim is None:
        raise RecipeError(f"{type(model).__name__} has no latent, so it cannot {task}; take {task!r} out of `tasks`")
