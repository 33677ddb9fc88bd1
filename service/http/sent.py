"""A header that was sent, read from the scope: Starlette's mapping costs as much as the rest of a small body."""

from starlette.types import Scope

BY_NAME = "hourglass.headers"  # where a request's scope holds its headers by name: see `by_name`


def by_name(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by name, the first of each name. Its scope keeps them."""
    found = scope[BY_NAME] = dict(reversed(scope["headers"]))
    return found


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of this lower-case name, or None."""
    try:
        value = scope[BY_NAME].get(name)
    except KeyError:  # without our server, as in jobs and in tests
        value = by_name(scope).get(name)
    return None if value is None else str(value, "latin-1")
