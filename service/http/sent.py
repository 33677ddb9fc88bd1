"""A header that was sent, read from the scope: Starlette's mapping costs as much as the rest of a small body."""

from starlette.requests import HTTPConnection


def header(request: HTTPConnection, name: bytes) -> str | None:
    """Return the first header of this lower-case name, or None."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None
