"""API keys: who has none, or a wrong one, is told so before the body of the request is read."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import MissingApiKey, RequestError, WrongApiKey
from service.http.problems import problem_response

# These tell nothing that is not in the source code, but for the names of models and whether they are live: what starts,
# balances or watches this service needs no key. Whatever is not listed here needs one.
_OPEN = {
    *("/", "/docs", "/openapi.json", "/health/live", "/health/ready"),
    *("/v2/health/live", "/v2/health/ready"),
}
_OPEN_BELOW = ("/docs/", "/page/", "/problems/")

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hourglass"'}


def is_open(path: str) -> bool:
    """Whether an address answers without a key."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


class KeyGate:
    """ASGI middleware that lets requests with one of the keys pass: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        app: What is behind it.
        keys: The keys; any of them will do, so that one can be replaced while the other still works.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401 or 403, or hands the request on."""
        if scope["type"] != "http" or is_open(scope["path"]):
            return await self._app(scope, receive, send)
        if problem := self._problem(Headers(scope=scope)):
            return await problem_response(problem)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> RequestError | None:
        # The body stays unread, so the connection cannot be used again.
        extra = {"Connection": "close"} if "content-length" in headers or "transfer-encoding" in headers else {}
        key = _sent_key(headers)
        if key is None:
            return MissingApiKey(
                "this service wants an API key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={**_CHALLENGE, **extra},
            )
        # Digests have one length, and every key is compared: the time tells nothing about where a guess went wrong.
        digest, is_known = _digest(key), False
        for known in self._digests:
            is_known |= hmac.compare_digest(digest, known)
        if is_known:
            return None
        return WrongApiKey("the API key is none of this service's keys; was it mistyped or replaced?", headers=extra)


def _sent_key(headers: Headers) -> bytes | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip().encode("latin-1")  # as Starlette decodes header bytes
    # A proxy in front may have taken Authorization for a password of its own.
    other = headers.get("x-api-key", "").strip()
    return other.encode("latin-1") if other else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
