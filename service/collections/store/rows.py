"""Conversion of values to text columns."""

import json
from datetime import UTC, datetime

from pydantic import JsonValue


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_metadata(metadata: dict[str, JsonValue] | None) -> str | None:
    """Serialise metadata as ASCII JSON, which any text column can store, even with a NUL or a lone surrogate."""
    return None if metadata is None else json.dumps(metadata)


def read_metadata(text: str | None) -> dict[str, JsonValue] | None:
    """Parse the output of `write_metadata`."""
    if text is None:
        return None
    found: dict[str, JsonValue] = json.loads(text)
    return found
