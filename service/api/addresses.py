"""The routes with a fixed address in a table. Starlette compares a request with the pattern of each route in turn."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

_SPAN = "fastapi.telemetry"


class Addresses:
    """ASGI application that looks up fixed addresses, and leaves all others and every refusal to the router.

    Args:
        router: The router, which knows all routes.
        routers: The same routes by family.
    """

    def __init__(self, router: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._router = router
        routes = [route for family in routers for route in family.routes if isinstance(route, APIRoute)]
        self._fixed: dict[tuple[str, str], APIRoute] = {}
        for route in routes:
            if "{" not in route.path:
                for method in route.methods or ():
                    self._fixed.setdefault((method, route.path), route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        route = None
        # With a root path, the path begins with that; a span of FastAPI's gets its name from the router.
        if scope["type"] == "http" and not scope.get("root_path") and _SPAN not in scope:
            route = self._fixed.get((scope["method"], scope["path"]))
        if route is None:
            return await self._router(scope, receive, send)
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
        return await route.app(scope, receive, send)
