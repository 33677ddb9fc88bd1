"""The route of every endpoint that reads a body, opens a model or asks the database: it passes admission first.

FastAPI describes these endpoints and validates their parameters. Its resolver of dependencies costs more than a small
model does, so the query of an endpoint `(request, query)` is read here; one with a mistake takes FastAPI's own way,
which says what is wrong. `python -m benchmarks.serving` shows what that gains.
"""

import typing
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.job_schemas import JobAnswer
from service.api.jobs.accept import or_job
from service.api.openapi import with_job
from service.api.schemas import StrictQuery
from service.api.service import service_of
from service.errors import InvalidParameter, RequestError
from service.http.admission import SLOT

_LONGEST_QUERY = 256  # bytes; longer ones are not worth remembering
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})


class AdmittedRoute(APIRoute):
    """A route whose requests hold a place in the queue until their answer is made."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  FastAPI's
        super().__init__(*args, **options)
        self.app = self._reading_queries(self.app)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's way of answering a request, behind admission."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await _admitted(request, answer(request))

        return handle

    def _reading_queries(self, fastapi: ASGIApp) -> ASGIApp:
        """Return the application of an endpoint `(request, query)`: FastAPI's answers where the query has a mistake."""
        parameters = typing.get_type_hints(self.endpoint)
        if parameters.keys() != {"request", "query", "return"}:
            return fastapi
        endpoint, model = self.endpoint, parameters["query"]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            query = _read_query(model, scope["query_string"])
            if query is None:
                await fastapi(scope, receive, send)
            else:
                request = Request(scope, receive, send)
                response = await _admitted(request, endpoint(request, query))
                await response(scope, receive, send)

        return app


class JobRoute(AdmittedRoute):
    """A route whose requests become jobs where they ask for that."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401  FastAPI's
        options["responses"], options["openapi_extra"] = with_job(
            options["responses"], options.get("openapi_extra"), JobAnswer
        )
        super().__init__(path, or_job(endpoint), **options)


async def _admitted(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    try:
        slot = service_of(request).admission.admit()
    except RequestError:
        answer.close()  # it never ran
        raise
    with slot:
        if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:  # PostgreSQL cannot compare it
            answer.close()
            raise InvalidParameter("the address has a NUL character (%00), which no name, id or text can have")
        request.scope[SLOT] = slot
        if request.method in _WITHOUT_BODY:
            slot.start(request, 1)
        return await answer


def _read_query(model: type[StrictQuery], query_string: bytes) -> StrictQuery | None:
    return _parse_query(model, query_string) if len(query_string) <= _LONGEST_QUERY else None


@lru_cache(maxsize=256)  # queries are frozen, so requests can share them
def _parse_query(model: type[StrictQuery], query_string: bytes) -> StrictQuery | None:
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query_string))
        if len(dict(pairs)) < len(pairs) or not all(value for _, value in pairs):
            return None
        return model.model_validate(dict(pairs))
    except ValueError:  # not ASCII, no pairs, or values that the model refuses
        return None
