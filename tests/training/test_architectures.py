"""One contract for every architecture: adding one to the table adds its tests."""

from typing import Any

import pytest
import torch
from torch import nn

from training.architectures import ARCHITECTURES, build
from training.config import ArchitectureConfig, DataConfig, Recipe, RecipeError, TrainingConfig

SIZES = [(1, 28, 28), (3, 32, 16)]
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {  # variants that are built from other parts; Any: as in a recipe
    "unet-global": ("unet", {"hidden": 8}),
    "mlp-unlike": ("mlp", {"hidden": [16], "decoder_hidden": [8, 12, 16]}),
}
each_architecture = pytest.mark.parametrize("name", sorted([*ARCHITECTURES, *OPTIONS]))
each_size = pytest.mark.parametrize(("channels", "height", "width"), SIZES)


def recipe_for(name: str, *, channels: int = 1, height: int = 28, width: int = 28, **options: int) -> Recipe:
    name, variant = OPTIONS.get(name, (name, {}))
    options = {**variant, **options}
    return Recipe(
        name="test",
        summary="",
        tasks=("denoise",),
        architecture=ArchitectureConfig(name=name, options=dict(options)),
        data=DataConfig(channels=1 if channels == 1 else 3, height=height, width=width),
        training=TrainingConfig(seed=3),
    )


def output_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = model(x)
    assert isinstance(y, torch.Tensor)
    return y


@each_architecture
@each_size
def test_an_architecture_returns_images_of_the_size_it_got(name: str, channels: int, height: int, width: int) -> None:
    model = build(recipe_for(name, channels=channels, height=height, width=width))

    x_hat = output_of(model, torch.rand(2, channels, height, width))

    assert x_hat.shape == (2, channels, height, width)
    assert torch.isfinite(x_hat).all()


@each_architecture
def test_an_image_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    model = build(recipe_for(name)).eval()
    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    together = output_of(model, x)

    alone = torch.cat([output_of(model, image[None]) for image in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)  # another order of float32 sums


@each_architecture
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    recipe = recipe_for(name)
    other = recipe.model_copy(update={"training": TrainingConfig(seed=4)})

    a, b, c = (torch.cat([p.flatten() for p in build(r).parameters()]) for r in (recipe, recipe, other))

    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@each_architecture
def test_a_gradient_reaches_every_weight(name: str) -> None:
    model = build(recipe_for(name))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))  # residuals start at zero

    model(torch.rand(2, 1, 28, 28)).square().sum().backward()

    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@each_architecture
def test_forward_is_decode_of_encode_where_there_is_a_latent(name: str) -> None:
    model = build(recipe_for(name))
    x = torch.rand(2, 1, 28, 28)
    if model.latent_dim is None:
        assert not hasattr(model, "encode")
        return

    with torch.no_grad():
        z = model.encode(x)  # type: ignore[operator]  # nn.Module's attributes are typed Tensor | Module
        x_hat = model.decode(z)  # type: ignore[operator]

    assert z.shape == (2, model.latent_dim)
    assert torch.equal(x_hat, output_of(model, x))


def test_an_unknown_architecture_is_named_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no architecture 'vit'; there are conv, linear, mlp, unet"):
        build(recipe_for("vit"))


def test_an_option_that_an_architecture_does_not_take_is_named() -> None:
    with pytest.raises(RecipeError, match="colour"):
        build(recipe_for("conv", colour=1))


@pytest.mark.parametrize("name", ["conv", "unet"])
def test_a_size_that_cannot_be_halved_is_refused_with_the_multiple_that_works(name: str) -> None:
    with pytest.raises(RecipeError, match=r"30x28 must be multiples of 4"):
        build(recipe_for(name, height=30))
