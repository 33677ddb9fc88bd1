"""A header that was sent, read from the scope: Starlette's mapping costs as much as the rest of a small body."""

from starlette.types import Scope

_BY_NAME = "hourglass.headers"  # where a request's scope holds its headers by name, once one has been asked for


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of this lower-case name, or None."""
    if (by_name := scope.get(_BY_NAME)) is None:
        by_name = scope[_BY_NAME] = dict(reversed(scope["headers"]))
    value = by_name.get(name)
    return None if value is None else str(value, "latin-1")
