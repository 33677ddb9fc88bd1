"""What every request passes first: it gets an id, is timed, counted, and logged if that is asked for."""

import logging
import re
import secrets
from collections.abc import Iterable
from itertools import count
from time import perf_counter

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.meters import OTHER, Meters
from service.responses import PROBLEM

log = logging.getLogger("service.requests")

# Where a request's scope holds what the protocol has answered in our place, and its id.
REFUSED, REQUEST_ID = "hourglass.refused", "hourglass.request_id"
CLIENT_LEFT = 499  # as nginx logs it: nobody was there to read an answer

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ROUTE = "hourglass.route"
# What may stand in a log and a header as it is; anything else gets an id of ours.
_SOUND_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Observing:
    """ASGI middleware around everything.

    Args:
        app: What is behind it.
        routers: Whose addresses are told apart.
        meters: Where it counts.
        is_logging: Whether there is a line for every request.
    """

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter], meters: Meters, is_logging: bool) -> None:
        self._app = app
        self._meters = meters
        self._is_logging = is_logging
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._fixed = {route.path for route in routes if "{" not in route.path}
        self._prefix = secrets.token_hex(4)  # of this process; 0.1 us instead of the 1 us of a random id for each
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on. Its id is the one in `X-Request-ID`, if there is one that can stand in a log."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = perf_counter(), CLIENT_LEFT
        request_id = _sent_id(scope) or f"{self._prefix}{next(self._numbers):08x}"
        scope[REQUEST_ID] = request_id
        if scope["path"] in self._fixed:
            scope[_ROUTE] = scope["path"]

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._note(scope, status, perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        code: str | None = scope.get(PROBLEM)
        if (refused := scope.get(REFUSED)) is not None:
            assert isinstance(refused, RequestError)  # noqa: S101  for the type checker: the protocol has put it there
            status, code = refused.status, refused.code
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        route = route_of(scope)
        self._meters.answered(route, method, status, seconds)
        if code is not None:
            self._meters.failed(code)
        if self._is_logging:
            fields = {
                "request_id": scope[REQUEST_ID],
                "method": method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "problem": code,
            }
            what = f"{method} {route} {status}" + (f" {code}" if code else "")
            log.info("%s in %.1f ms, request %s", what, seconds * 1e3, scope[REQUEST_ID], extra=fields)


def route_of(scope: Scope) -> str:
    """The address as the API page has it, `/models/{name}`; whatever else is asked for is "other"."""
    route: str | None = scope.get(_ROUTE) or getattr(scope.get("route"), "path", None)
    return route or OTHER


def _sent_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("ascii") if _SOUND_ID.fullmatch(value) else None
    return None
