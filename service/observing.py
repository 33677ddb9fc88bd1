"""What every request passes first: it is timed and counted."""

from collections.abc import Iterable
from time import perf_counter

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.meters import OTHER, Meters
from service.responses import PROBLEM

REFUSED = "hourglass.refused"  # where a request's scope holds what the protocol has answered in our place

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CLIENT_LEFT = 499  # as nginx logs it: nobody was there to read an answer


class Observing:
    """ASGI middleware that counts requests and their problems.

    Args:
        app: What is behind it.
        routers: Whose addresses are told apart.
        meters: Where it counts.
    """

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter], meters: Meters) -> None:
        self._app = app
        self._meters = meters
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._fixed = {route.path for route in routes if "{" not in route.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = perf_counter(), CLIENT_LEFT

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path, method = scope["path"], scope["method"]
            route = path if path in self._fixed else getattr(scope.get("route"), "path", OTHER)
            refused: RequestError | None = scope.get(REFUSED)
            code = refused.code if refused else scope.get(PROBLEM)
            if refused:
                status = refused.status
            if code is not None:
                self._meters.failed(code)
            self._meters.answered(route, method if method in _METHODS else OTHER, status, perf_counter() - started)
