"""The outermost layer of every request: timing, counting, and a log line with its id if enabled."""

import logging
import re
import secrets
from collections.abc import Iterable
from time import perf_counter

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.http.budget import Budget, begin
from service.http.problems import PROBLEM
from service.http.sent import header
from service.telemetry.counters import OTHER, Meters

log = logging.getLogger("service.requests")

REFUSED = "hourglass.refused"  # where a request's scope holds what the protocol has answered in our place
CLIENT_LEFT = 499  # as nginx logs it: nobody was there to read an answer

_NOTES = "hourglass.notes"  # where a request's scope holds what its line in the log says; absent where it has none
_SLICE_BYTES = 256 * 1024  # of an answer, handed to the connection at a time
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_REQUEST_ID = "hourglass.request_id"
STATUS = "hourglass.status"  # a list, which copies of a scope share: empty until an answer has begun
# Safe in a log and in a header; any other id is replaced.
_SOUND_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Observing:
    """ASGI middleware around everything.

    Args:
        app: The application.
        routers: Routers whose addresses are counted separately.
        meters: Counters.
        budget: Budget of the requests.
        is_logging: Write a line for every request.
    """

    def __init__(
        self, app: ASGIApp, *, routers: Iterable[APIRouter], meters: Meters, budget: Budget, is_logging: bool
    ) -> None:
        self._app = app
        self._meters = meters
        self._budget = budget
        self._is_logging = is_logging
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._fixed = {route.path for route in routes if "{" not in route.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on. Its id is the one in `X-Request-ID`, if there is one that is safe in a log."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, hold = perf_counter(), begin(scope, self._budget)
        statuses: list[int] = []
        scope[STATUS] = statuses
        if (sent := header(scope, b"x-request-id")) is not None:
            _take_id(scope, sent)
        elif self._is_logging:
            request_id(scope)
        if self._is_logging:
            scope[_NOTES] = {}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                if self._is_logging:
                    _note_model(scope, message["headers"])
                if _REQUEST_ID in scope:
                    message["headers"] = [*message["headers"], (b"x-request-id", scope[_REQUEST_ID].encode())]
            elif len(body := message.get("body", b"")) > _SLICE_BYTES:
                # In slices, each of which waits until the client has read those before it: what is not sent is held
                # here, where it is counted, and not in the buffer of the connection.
                is_part = message.get("more_body", False)  # of a stream, whose later parts may be larger
                hold.answer(max(len(body), hold.load.bytes) if is_part else len(body))
                view, last = memoryview(body), len(body) - _SLICE_BYTES
                for start in range(0, last, _SLICE_BYTES):
                    await send({**message, "body": view[start : start + _SLICE_BYTES], "more_body": True})
                message = {**message, "body": view[(last - 1) // _SLICE_BYTES * _SLICE_BYTES + _SLICE_BYTES :]}
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            hold.free()
            self._note(scope, statuses[0] if statuses else CLIENT_LEFT, perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        code: str | None = scope.get(PROBLEM)
        if (refused := scope.get(REFUSED)) is not None:
            assert isinstance(refused, RequestError)  # noqa: S101  for the type checker: the protocol has put it there
            status, code = refused.status, refused.code
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        route = scope["path"] if scope["path"] in self._fixed else getattr(scope.get("route"), "path", OTHER)
        self._meters.answered(route, method, status, seconds)
        if code is not None:
            self._meters.failed(code)
        if self._is_logging:
            fields = {
                "request_id": request_id(scope),
                "method": method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "problem": code,
            }
            notes = scope[_NOTES]
            fields |= notes
            if self._meters.tracer is not None:
                fields["trace_id"] = self._meters.tracer.trace_id()
            what = f"{method} {route} {status}" + (f" {code}" if code else "")
            said = "".join(f", {name} {value}" for name, value in notes.items())
            log.info("%s in %.1f ms%s, request %s", what, seconds * 1e3, said, request_id(scope), extra=fields)


def note(scope: Scope, **fields: object) -> None:
    """Add fields to the line of a request in the access log, without any content of the request; None is left out."""
    if (notes := scope.get(_NOTES)) is not None:
        notes.update({name: value for name, value in fields.items() if value is not None})


def has_notes(scope: Scope) -> bool:
    """Return whether a request has a line in the access log."""
    return _NOTES in scope


def _note_model(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> None:
    label = next((value.decode("latin-1") for name, value in headers if name == b"x-model"), None)
    if label is not None:
        model, _, version = label.rpartition("/")
        note(scope, model=model, version=int(version))


def has_begun(scope: Scope) -> bool:
    """Return whether the answer to a request has started."""
    return bool(scope[STATUS])


def request_id(scope: Scope) -> str:
    """Return the id of a request: the one sent, or a new one, which is created on first use.

    That costs 1 %.
    """
    if _REQUEST_ID not in scope:
        scope[_REQUEST_ID] = secrets.token_hex(8)
    found: str = scope[_REQUEST_ID]
    return found


def _take_id(scope: Scope, sent: str) -> None:
    scope[_REQUEST_ID] = sent if _SOUND_ID.fullmatch(sent) else secrets.token_hex(8)
