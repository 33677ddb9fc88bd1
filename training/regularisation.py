"""Regularisation of latents. To add a regulariser: a function and its name below.

Every function takes the encoder, its input, its latents and the noise of the step, and returns a penalty, a mean over
images. `strength` times the penalty is added to the loss. It works with any network that has a latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.config import RecipeError, RegularisationConfig

Images = Float[Tensor, "batch channel height width"]
Latents = Float[Tensor, "batch latent"]


@dataclass(frozen=True)
class Step:
    """Inputs of a penalty: the network, its input, its latents, and standard normal noise of their shape."""

    model: nn.Module
    x: Images
    z: Latents
    noise: Latents
    sigma: float


def l1(step: Step) -> Float[Tensor, ""]:
    """Return the mean absolute activation, as in LASSO: few latents are far from zero.

    Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996,
    https://doi.org/10.1111/j.2517-6161.1996.tb02080.x
    """
    return step.z.abs().mean()


def l2(step: Step) -> Float[Tensor, ""]:
    """Return the mean squared activation, as in ridge regression: no latent is very far from zero.

    Ghosh et al., From Variational to Deterministic Autoencoders, 2020, https://arxiv.org/abs/1903.12436
    """
    return step.z.square().mean()


def contractive(step: Step) -> Float[Tensor, ""]:
    """Return the squared norm of the encoder's Jacobian: a small change of the image changes the latents little.

    Rifai et al., Contractive Auto-Encoders, 2011, https://icml.cc/2011/papers/455_icmlpaper.pdf. Estimated with one
    random projection v per image, E |J'v|² = |J|², Hutchinson 1989, https://doi.org/10.1080/03610918908812806.
    """
    x = step.x.detach().requires_grad_()
    z = step.model.encode(x)  # type: ignore[operator]  # nn.Module types its attributes Tensor | Module
    (projected,) = torch.autograd.grad(z, x, step.noise.to(z.dtype), create_graph=True)
    return projected.flatten(1).square().sum(1).mean()


def kl(step: Step) -> Float[Tensor, ""]:
    """Return the divergence of N(z, sigma²), which the decoder samples, from N(0, 1): a variational autoencoder.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, with one standard
    deviation for every latent (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436), so that any encoder will do.
    """
    variance = torch.tensor(step.sigma**2, device=step.z.device)
    return 0.5 * (step.z.square() + variance - 1.0 - variance.log()).sum(1).mean()


REGULARISERS: dict[str, Callable[[Step], Float[Tensor, ""]]] = {
    "contractive": contractive,
    "kl": kl,
    "l1": l1,
    "l2": l2,
}


class Regularised(nn.Module):
    """(x, noise) -> (x_hat, penalty), as one module, so that several processes average its gradients."""

    def __init__(self, model: nn.Module, config: RegularisationConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, x: Images, noise: Latents) -> tuple[Images, Float[Tensor, ""]]:
        z: Tensor = self.model.encode(x)  # type: ignore[operator]  # as above
        step = Step(self.model, x, z.float(), noise, self.config.sigma)
        penalty = REGULARISERS[self.config.name](step)
        if self.config.name == "kl":
            z = z + self.config.sigma * noise.to(z.dtype)
        x_hat: Tensor = self.model.decode(z)  # type: ignore[operator]  # as above
        return x_hat, penalty


def check_regularisation(model: nn.Module, config: RegularisationConfig) -> None:
    """Check that `model` can be trained with a regularisation.

    Raises:
        RecipeError: The regulariser is unknown, or the network has no latent.
    """
    if config.name == "none":
        return
    if config.name not in REGULARISERS:
        raise RecipeError(f"no regularisation {config.name!r}; there are none, {', '.join(sorted(REGULARISERS))}")
    if model.latent_dim is None:
        raise RecipeError(
            f"{type(model).__name__} has no latent, so regularisation.name={config.name} has nothing to act on"
        )
