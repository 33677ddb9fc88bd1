"""Every error as a problem document (RFC 9457), a handler for each class that Starlette looks for."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.errors import (
    InternalError,
    InvalidParameter,
    MalformedBody,
    MethodNotAllowed,
    RequestError,
    RouteNotFound,
    shown,
)
from service.http.instrument import CLIENT_LEFT, request_id
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
        sentences.append(f"{where}: {problem['msg']}, found {shown(problem.get('input'))}")
    if len(problems) > _MOST_SENTENCES:
        sentences.append(f"and {len(problems) - _MOST_SENTENCES} more")
    return problem_response(InvalidParameter("; ".join(sentences)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for the type checker: Starlette calls by class
    path, headers = shown(request.url.path), dict(error.headers or {})
    match error.status_code:
        case 404:
            return problem_response(RouteNotFound(f"no endpoint {path}; GET /docs lists all of them"))
        case 405:
            allowed = headers.get("Allow", "")
            return problem_response(
                MethodNotAllowed(f"{request.method} does not work on {path}; use {allowed}", headers=headers)
            )
        case 400:
            return problem_response(MalformedBody(str(error.detail), headers=headers))
        case _:
            return await _on_unforeseen(request, error)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)  # nobody is there to read it


async def _on_unforeseen(request: Request, error: Exception) -> Response:
    found = request_id(request.scope)
    route = getattr(request.scope.get("route"), "path", request.url.path)
    extra = {"request_id": found}
    log.error("request %s: %s %s failed", found, request.method, route, exc_info=error, extra=extra)
    return problem_response(
        InternalError(f"something went wrong on our side; the log has it under request id {found}", extra=dict(extra))
    )


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestError: _on_request_error,
    RequestValidationError: _on_invalid_parameter,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
    Exception: _on_unforeseen,
}
