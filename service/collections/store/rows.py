"""What the databases of collections share: values as text columns, and the statement for a page."""

# ruff: noqa: S608  only constants are formatted into SQL

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


def entries_sql(table: str, mark: str) -> str:
    """Return the SELECT for a page of items; its values are collection, last id before it, count and bytes of metadata.

    Args:
        table: Table of items.
        mark: Placeholder of a value.
    """
    found = (
        f"SELECT id, label, metadata, updated, coalesce(length(metadata), 0) AS size FROM {table} "
        f"WHERE collection = {mark} AND id > {mark} ORDER BY id LIMIT {mark}"
    )
    summed = f"SELECT id, label, metadata, updated, sum(size) OVER (ORDER BY id) - size AS before FROM ({found}) found"
    return f"SELECT id, label, metadata, updated FROM ({summed}) summed WHERE before <= {mark} ORDER BY id"
