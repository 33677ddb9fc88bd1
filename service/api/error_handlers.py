"""Every error as a problem document (RFC 9457), a handler for each class of errors."""

import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.routes import ROUTERS
from service.errors import (
    InternalError,
    InvalidParameter,
    MalformedBody,
    MethodNotAllowed,
    QueueFull,
    RequestError,
    RouteNotFound,
    shown,
    without_prefix,
)
from service.http.instrument import CLIENT_LEFT, has_begun, request_id
from service.http.problems import problem_response

log = logging.getLogger(__name__)

_MOST_SENTENCES = 3  # about one query; a long one can be wrong in thousands of places


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  for the type checker: Starlette calls by class
    return problem_response(error)


async def _on_invalid_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  for the type checker: Starlette calls by class
    problems = error.errors()
    sentences = []
    for problem in problems[:_MOST_SENTENCES]:
        where = " ".join(shown(part) if i else str(part) for i, part in enumerate(problem["loc"]))
        sentences.append(f"{where}: {without_prefix(problem['msg'])}, found {shown(problem.get('input'))}")
    if len(problems) > _MOST_SENTENCES:
        sentences.append(f"and {len(problems) - _MOST_SENTENCES} more")
    return problem_response(InvalidParameter("; ".join(sentences)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for the type checker: Starlette calls by class
    path, headers = shown(request.url.path), dict(error.headers or {})
    match error.status_code:
        case 404:
            if location := _without_slash(request):
                return Response(status_code=307, headers={"Location": location})
            return problem_response(RouteNotFound(f"no endpoint {path}; GET /docs lists all of them"))
        case 405:
            allowed = headers["Allow"] = ", ".join(methods_of(request.scope["path"]))
            return problem_response(
                MethodNotAllowed(f"{request.method} does not work on {path}; use {allowed}", headers=headers)
            )
        case 400:
            return problem_response(MalformedBody(str(error.detail), headers=headers))
        case _:
            return await _on_unforeseen(request, error)


def methods_of(path: str) -> list[str]:
    """Return the methods that an address supports; HEAD wherever there is GET."""
    routes = [route for router in ROUTERS.values() for route in router.routes if isinstance(route, APIRoute)]
    methods = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _without_slash(request: Request) -> str | None:
    """Return the relative address without a trailing slash if an endpoint has it, which keeps host and path prefix."""
    raw: bytes = request.scope.get("raw_path") or b""
    if not raw.endswith(b"/") or raw.endswith(b"//") or not methods_of(request.scope["path"][:-1]):
        return None
    query: bytes = request.scope["query_string"]
    return (b"../" + raw[:-1].rpartition(b"/")[2] + (b"?" + query if query else b"")).decode("latin-1")


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)  # nobody is there to read it


async def _on_no_memory(_: Request, error: Exception) -> Response:
    log.error("there was no memory for a request: %s", error)
    return problem_response(
        QueueFull("there is no memory for this request now; send less at once", headers={"Retry-After": "5"})
    )


async def _on_unforeseen(request: Request, error: Exception) -> Response:
    found = request_id(request.scope)
    route = getattr(request.scope.get("route"), "path", request.url.path)
    extra = {"request_id": found}
    log.error("request %s: %s %s failed", found, request.method, route, exc_info=error, extra=extra)
    return problem_response(
        InternalError(f"an internal error; the log has the details under request id {found}", extra=dict(extra))
    )


HANDLERS: dict[type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestError: _on_request_error,
    RequestValidationError: _on_invalid_parameter,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
    MemoryError: _on_no_memory,
    Exception: _on_unforeseen,
}


class _NoFiles(AsyncExitStack):
    """Stand in for FastAPI's stack of a form's files: here every body is read by `service/http/body.py`."""

    def push_async_callback(self, *_: object, **__: object) -> Any:  # noqa: ANN401  as it is declared
        raise NotImplementedError("an endpoint reads a form through FastAPI; use read_files instead")


class Problems:
    """ASGI middleware that answers every error of the router: one layer instead of Starlette's and FastAPI's.

    Five layers of theirs took as long as the rest of a small request; see `python -m benchmarks.serving`.

    Args:
        app: The router.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._no_files = _NoFiles()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on.

        Raises:
            Exception: An unexpected error, after it is answered, so that the server logs it; any error after the start
                of the answer.
        """
        scope["fastapi_middleware_astack"] = self._no_files  # FastAPI's routes look for it
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
            if has_begun(scope):
                raise
            response = await handler(Request(scope, receive), error)
            await response(scope, receive, send)
            if handler is _on_unforeseen:
                raise
