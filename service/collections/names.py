"""Validation of names, ids, labels and metadata of collections."""

import re
from typing import Any

from pydantic import JsonValue

from service.errors import InvalidMetadata, shown

MAX_METADATA_BYTES = 8192
_MAX_METADATA_DEPTH = 8
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"


# Path segments that begin with a letter, digit or underscore of any script: no ".", no "..", nothing empty.
_SEGMENT = r"\w[\w .,+=@()~-]{0,127}"
ID_PATTERN = rf"^{_SEGMENT}(/{_SEGMENT}){{0,7}}$"
MAX_ID = 255
MAX_LABEL = 100


def is_item_id(text: str) -> bool:
    """Return whether an item id is valid: a path such as "seven/0001.png", with letters and digits of any script."""
    return len(text) <= MAX_ID and re.fullmatch(ID_PATTERN, text) is not None


def is_collection_name(text: str) -> bool:
    """Return whether a collection name is valid."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def check_label(text: str | None) -> str | None:
    """Return the label if it is valid.

    Raises:
        ValueError: The label is not valid.
    """
    if text is not None and not (1 <= len(text) <= MAX_LABEL and text.isprintable()):
        raise ValueError(f"a label is printable text of up to {MAX_LABEL} characters")
    return text


def check_metadata(found: Any, size: int, where: str) -> dict[str, JsonValue]:  # noqa: ANN401  JSON
    """Return the metadata if it is a JSON object within the limits of size and depth.

    Raises:
        InvalidMetadata: The metadata is not valid.
    """
    if not isinstance(found, dict):
        raise InvalidMetadata(f'{where} is {shown(found)}; send a JSON object, such as {{"lot": 12}}')
    if size > MAX_METADATA_BYTES:
        raise InvalidMetadata(f"{where} has {size} bytes, the limit is {MAX_METADATA_BYTES}")
    if (depth := _depth(found)) > _MAX_METADATA_DEPTH:
        raise InvalidMetadata(f"{where} is nested {depth} deep, the limit is {_MAX_METADATA_DEPTH}")
    return found


def _depth(value: JsonValue) -> int:
    """Return the nesting depth of a JSON value."""
    inside: list[JsonValue] = [value]
    depth = 0
    while inside := [v for v in inside if isinstance(v, dict | list)]:
        depth += 1
        inside = [w for v in inside for w in (v.values() if isinstance(v, dict) else v)]
    return depth
