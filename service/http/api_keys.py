"""API keys: reject missing and unknown keys before reading the body."""

import hashlib
import hmac
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import KeyNotEnough, MissingApiKey, RequestError, TooManyGuesses, WrongApiKey, shown
from service.http.budget import CLIENT
from service.http.instrument import note
from service.http.problems import problem_response
from service.http.sent import header

log = logging.getLogger("service.requests")

K = TypeVar("K")
V = TypeVar("V")

# These tell nothing that is not in the source code, but for the names of models and whether they are live: what starts,
# balances or watches this service needs no key. Whatever is not listed here needs one.
_OPEN = {
    *("/", "/docs", "/help", "/openapi.json", "/health/live", "/health/ready"),
    *("/v2/health/live", "/v2/health/ready"),
}
_OPEN_BELOW = ("/docs/", "/help/", "/page/", "/problems/")

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hourglass"'}


def owner_of(scope: Scope) -> str | None:
    """Return the digest of the key of a request; None if no keys are set."""
    owner: str | None = scope.get(CLIENT)
    return owner


def is_open(path: str) -> bool:
    """Return whether an address needs no key."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


Right = Literal["read", "write", "admin"]
RIGHTS: tuple[Right, ...] = get_args(Right)  # each may do what those before it may
_ADMIN = re.compile(r"/v2/repository/models/|/models/[^/]+/(aliases|training)(/|$)|/training/")
_WRITING_METHODS = {"PUT", "PATCH", "DELETE"}

_MAX_GUESSES, _GUESSES_FOR_S = 10, 60.0
_MAX_ADDRESSES = 10_000  # remembered; a flood of them forgets the oldest


def right_for(method: str, path: str) -> Right:
    """Return the right that a request needs.

    Reading includes running models. Items and feedback are written, models are administered.
    """
    if method not in {"GET", "HEAD", "OPTIONS"} and _ADMIN.match(path):
        return "admin"
    if path.startswith("/jobs/"):  # a key that may ask may also cancel; nobody else knows the job's id
        return "read"
    return "write" if method in _WRITING_METHODS or path.endswith("/feedback") else "read"


class KeyGate:
    """ASGI middleware that lets requests with one of the keys pass: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        app: The application.
        keys: Keys of each right. Several keys allow replacing one while another still works.
    """

    def __init__(self, app: ASGIApp, *, keys: Mapping[Right, Sequence[str]]) -> None:
        self._app = app
        self._known = [
            (_digest(key.encode()), right, f"{right}-{number}")
            for right in RIGHTS
            for number, key in enumerate(keys.get(right, ()), 1)
        ]
        self._guesses: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, since when, by address
        self._welcome: OrderedDict[tuple[str, bytes], None] = OrderedDict()  # right keys, and where they came from

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 403 or 429, or pass the request on."""
        if scope["type"] != "http" or is_open(scope["path"]):
            return await self._app(scope, receive, send)
        if problem := self._problem(scope):
            return await problem_response(problem)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> RequestError | None:
        address = (scope.get("client") or ("unknown",))[0]
        # The body stays unread, so the connection cannot be used again.
        has_body = any(header(scope, name) is not None for name in (b"content-length", b"transfer-encoding"))
        extra = {"Connection": "close"} if has_body else {}
        key = _sent_key(scope)
        if key is None:
            return MissingApiKey(
                "this service requires an API key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={**_CHALLENGE, **extra},
            )
        digest = _digest(key)
        if (wait_s := self._wait_s(address)) and (address, digest) not in self._welcome:
            return TooManyGuesses(
                f"{_MAX_GUESSES} wrong keys came from {address!r} within a minute; wait a minute",
                headers={"Retry-After": str(math.ceil(wait_s)), **extra},
            )
        # Digests have one length, and every key is compared: the time tells nothing about where a guess went wrong.
        found: Right | None = None
        name = ""
        for known, right, its_name in self._known:
            if hmac.compare_digest(digest, known):
                found, name = right, its_name
        if found is None:
            self._note_guess(address)
            return WrongApiKey("the API key is not valid here; was it mistyped or replaced?", headers=extra)
        scope[CLIENT] = digest.hex()
        note(scope, key=name)
        _remember(self._welcome, (address, digest), None)
        needed = right_for(scope["method"], scope["path"])
        if RIGHTS.index(found) < RIGHTS.index(needed):
            return KeyNotEnough(
                f"the key may only {found}, but {scope['method']} {shown(scope['path'])} needs one that may {needed} "
                f"(setting {_SETTING[needed]})",
                headers=extra,
            )
        return None

    def _wait_s(self, address: str) -> float:
        """Return the seconds for which an address is blocked after too many wrong keys."""
        guesses, since = self._guesses.get(address, (0, 0.0))
        left_s = since + _GUESSES_FOR_S - time.monotonic()
        if left_s <= 0:
            self._guesses.pop(address, None)
            return 0.0
        return left_s if guesses >= _MAX_GUESSES else 0.0

    def _note_guess(self, address: str) -> None:
        guesses, since = self._guesses.get(address, (0, time.monotonic()))
        _remember(self._guesses, address, (guesses + 1, since))
        log.warning("wrong API key from %s, number %d within a minute", address, guesses + 1)


_SETTING: dict[Right, str] = {"read": "read_keys", "write": "write_keys or api_keys", "admin": "api_keys"}


def _remember(memory: OrderedDict[K, V], key: K, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MAX_ADDRESSES:
        memory.popitem(last=False)


def _sent_key(scope: Scope) -> bytes | None:
    scheme, _, key = (header(scope, b"authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip().encode("latin-1")  # as Starlette decodes header bytes
    # A proxy in front may have taken Authorization for a password of its own.
    other = (header(scope, b"x-api-key") or "").strip()
    return other.encode("latin-1") if other else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
