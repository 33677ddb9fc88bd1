"""Recipes of every kind, by name or from a file, with fields overridden.

The field `kind` is the kind of a recipe; the default is `autoencode`, for images of one size.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from training.anomaly.config import AnomalyRecipe
from training.compression.config import CompressionRecipe
from training.compression.photo_config import PhotoCodecRecipe
from training.config import Recipe, RecipeError, Section
from training.restoration.config import RestorationRecipe

Wanted = TypeVar("Wanted", bound=Section)


def _with_kind(fields: object) -> object:
    return {"kind": "autoencode", **fields} if isinstance(fields, dict) else fields


AnyRecipe = Recipe | RestorationRecipe | CompressionRecipe | PhotoCodecRecipe | AnomalyRecipe
# How pydantic reads one: the field `kind` picks the class.
RecipeField = Annotated[AnyRecipe, Field(discriminator="kind"), BeforeValidator(_with_kind)]
_ADAPTER: TypeAdapter[AnyRecipe] = TypeAdapter(RecipeField)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes, sorted."""
    files = resources.files("training").joinpath("recipes").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@overload
def load_recipe(name: str, overrides: tuple[str, ...] = ...) -> AnyRecipe: ...
@overload
def load_recipe(name: str, overrides: tuple[str, ...] = ..., *, of: type[Wanted]) -> Wanted: ...
def load_recipe(name: str, overrides: tuple[str, ...] = (), *, of: type[Section] | None = None) -> Section:
    """Load a shipped recipe, or one from a file.

    Args:
        name: One of `recipe_names()`, or the path of a .toml file.
        overrides: `section.field=value` each. Values are TOML (`3`, `1e-3`, `true`, `[1, 2]`); a bare word is a string.
        of: Required kind; None accepts any.

    Raises:
        RecipeError: The recipe is missing or of another kind than `of`, an override is not `field=value`, a field is
            unknown, or a value is invalid.
    """
    try:
        recipe = _ADAPTER.validate_python(_read_fields(name, overrides))
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg'].removeprefix('Value error, ')}, got {e['input']!r}"
            for e in error.errors()
        )
        raise RecipeError(f"recipe {name}:\n  " + "\n  ".join(lines)) from error
    if of is not None and not isinstance(recipe, of):
        raise RecipeError(f"recipe {name} is of kind {recipe.kind}, which is no {of.__name__}")
    return recipe


def _read_fields(name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    if name.endswith(".toml"):
        source = _read_file(name)
    elif name in recipe_names():
        source = resources.files("training").joinpath("recipes", f"{name}.toml").read_text("utf-8")
    else:
        raise RecipeError(
            f"no recipe {name!r}; there are {', '.join(recipe_names())}, or give the path of a .toml file"
        )
    try:
        fields = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: not TOML: {error}") from error
    for override in overrides:
        _apply(fields, override)
    return fields


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error


def _apply(fields: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r} is not an override; write section.field=value, for example training.epochs=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, field = key.split(".")
    at = fields
    for section in sections:
        at = at.setdefault(section, {})
        if not isinstance(at, dict):
            raise RecipeError(f"{override!r}: {section!r} is a value, not a section")
    at[field] = value
