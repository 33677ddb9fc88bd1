"""Conditional GET (RFC 9110, section 13): answer 304 if the client's copy is current."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from service.http.sent import header


def tag_of(content: bytes | memoryview) -> str:
    """Return the ETag of some content."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def conditional(request: Request, response: Response, *, tag: str | None = None) -> Response:
    """Return the response with its ETag, or a 304 if `If-None-Match` contains it.

    For answers that depend on nothing but the address and what the service holds.

    Args:
        request: With or without `If-None-Match`.
        response: The answer to one without.
        tag: Tag of its content, where that is known.
    """
    tag = tag or tag_of(response.body)
    response.headers["ETag"] = tag
    if not _has(header(request.scope, b"if-none-match") or "", tag):
        return response
    kept = {name: value for name, value in response.headers.items() if name not in {"content-length", "content-type"}}
    return Response(status_code=304, headers=kept)


def _has(if_none_match: str, tag: str) -> bool:
    # Weak comparison: a cache in between may have marked the tag as weak.
    sent = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in sent or sent == ["*"]
