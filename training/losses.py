"""How far a reconstruction is from its image. To add one: a function and its name below."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]


def mse(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Mean squared error over all pixels: the textbook's objective."""
    return F.mse_loss(x_hat, x)


def l1(x_hat: Images, x: Images) -> Float[Tensor, ""]:
    """Mean absolute error over all pixels: less afraid of rare large errors."""
    return F.l1_loss(x_hat, x)


LOSSES: dict[str, Callable[[Images, Images], Float[Tensor, ""]]] = {"l1": l1, "mse": mse}
