"""What the databases keep as text."""

import json
from datetime import UTC, datetime

from pydantic import JsonValue


def now() -> str:
    """Return UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_metadata(metadata: dict[str, JsonValue] | None) -> str | None:
    """As JSON in ASCII: any text can hold it, also with a NUL or half a surrogate pair inside."""
    return None if metadata is None else json.dumps(metadata)


def read_metadata(text: str | None) -> dict[str, JsonValue] | None:
    """Return what `write_metadata` has written."""
    if text is None:
        return None
    found: dict[str, JsonValue] = json.loads(text)
    return found
