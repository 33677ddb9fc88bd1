"""Descriptions of all fields of all kinds of recipes, for `--help FIELD` and docs/recipes.md.

`python -m training.fields > docs/recipes.md` writes that page.
"""

import difflib
import inspect
import sys
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from training.architectures import ARCHITECTURES
from training.config import RecipeError
from training.recipe import AnyRecipe

PAGE = """\
# Recipes

Every field of every kind of recipe: its default, what it may be, and what it does. This page is made of the recipes
themselves by `python -m training.fields`; `python -m training fit --help FIELD` shows a field or a section on the
terminal. A field is overridden as `section.field=value`; how to train is in [training.md](training.md).
"""


@dataclass(frozen=True)
class Field:
    """A field by its path, with its default and range in words."""

    path: str
    default: str
    values: str
    meaning: str


def fields_by_kinds() -> dict[str, tuple[Field, ...]]:
    """Return the fields of every class of recipes, by the kinds that it has: "denoise, restore, enhance, blind"."""
    return {", ".join(kinds_of(recipe)): fields_of(recipe) for recipe in get_args(AnyRecipe)}


def kinds_of(recipe: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of the field `kind` of a recipe class."""
    kinds: tuple[str, ...] = get_args(recipe.model_fields["kind"].annotation)
    return kinds


def fields_of(recipe: type[BaseModel]) -> tuple[Field, ...]:
    """Return the fields of a recipe class; those of sections are named `section.field`."""
    schema = recipe.model_json_schema()
    return tuple(_walk(schema, schema.get("$defs", {}), ""))


def explain(asked: str) -> str:
    """Return the description of a field, or of every field of a section, in each kind of recipe that has it.

    Raises:
        RecipeError: No recipe has the field.
    """
    kinds_by_text: dict[str, list[str]] = {}
    known: set[str] = set()
    for kinds, fields in fields_by_kinds().items():
        for field in fields:
            known |= {field.path, field.path.partition(".")[0]}
            if field.path == asked or field.path.startswith(f"{asked}."):
                text = f"{field.path}\n    {field.meaning}\n    default: {field.default}; {field.values}"
                kinds_by_text.setdefault(text, []).append(kinds)
    if not kinds_by_text:
        near = difflib.get_close_matches(asked, sorted(known), n=3, cutoff=0.4)
        raise RecipeError(f"no recipe has a field {asked!r}" + (f"; there is {', '.join(near)}" if near else ""))
    lines = [f"{text}\n    in recipes of kind {', '.join(kinds)}" for text, kinds in kinds_by_text.items()]
    if asked in {"architecture", "architecture.options"}:
        lines += [f"{name}: {_options_of(network)}" for name, network in ARCHITECTURES.items()]
    return "\n".join(lines)


def page() -> str:
    """Return the content of docs/recipes.md."""
    parts = [PAGE]
    for kinds, fields in fields_by_kinds().items():
        rows = [
            f"| `{field.path}` | {field.default} | {field.values} | {field.meaning} |".replace("\n", " ")
            for field in fields
        ]
        head = ["| field | default | values | meaning |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {kinds}", "", *head, *rows]) + "\n")
    return "\n".join(parts)


def _walk(schema: dict[str, Any], defs: dict[str, Any], prefix: str) -> list[Field]:
    found = []
    for name, given in schema["properties"].items():
        field = {**given, **(defs[given["$ref"].rpartition("/")[2]] if "$ref" in given else {})}
        if "properties" in field:
            found += _walk(field, defs, f"{prefix}{name}.")
            continue
        default = "required" if name in schema.get("required", ()) else _shown(field.get("default"))
        meaning = " ".join(str(given.get("description", "")).split())
        found.append(Field(prefix + name, default, _values(field), meaning))
    return found


def _shown(value: object) -> str:
    if value in ("", None, [], {}):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_values(one) for one in field["anyOf"])
    if "enum" in field or "const" in field:
        return ", ".join(map(str, field.get("enum", [field.get("const")])))
    kind = field.get("type", "value")
    if kind == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        return f"list of {_values(items[0])}"
    if kind == "object":
        return "table"
    words = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "none"}
    bounds = [
        f"{word} {field[key]:g}"
        for key, word in (
            ("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"),
            ("exclusiveMaximum", "below"), ("multipleOf", "multiple of"),
        )
        if key in field
    ]  # fmt: skip
    return ", ".join([words.get(kind, kind), *bounds])


def _options_of(network: type) -> str:
    options = [p for p in inspect.signature(network).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in options)


if __name__ == "__main__":
    sys.stdout.write(page())
