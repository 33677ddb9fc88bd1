"""The short way to the endpoints that run a model: past the routing, which costs more than a small model does.

    POST /denoise?model=digits -> [ Shortcut ] -> denoise(request, query) -> answer
                                       |
                                       +-> FastAPI's routes: another method or address, a query that is wrong

Both ways call the same function, and the long one says what is wrong with a request. `python -m benchmarks.serving`
shows what the short one gains.
"""

import typing
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from urllib.parse import parse_qsl

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.schemas import StrictQuery
from service.errors import RequestError
from service.http.problems import problem_response

OnError = Callable[[Request, Exception], Awaitable[Response]]
Endpoint = Callable[[Request, StrictQuery], Awaitable[Response]]
_LONGEST_QUERY = 256  # bytes; longer ones are not worth remembering


class Shortcut:
    """ASGI middleware that takes a POST straight to its endpoint.

    Args:
        app: The long way.
        routers: Where the endpoints are: those with the two parameters `request` and `query`.
        on_unforeseen: Makes the answer to what no endpoint should raise.
    """

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter], on_unforeseen: OnError) -> None:
        self._app = app
        self._on_unforeseen = on_unforeseen
        self.endpoint_by_path: dict[str, tuple[Endpoint, type[StrictQuery]]] = {}
        for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
            parameters = typing.get_type_hints(route.endpoint)
            if "POST" in (route.methods or ()) and parameters.keys() == {"request", "query", "return"}:
                self.endpoint_by_path[route.path] = (route.endpoint, parameters["query"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands the request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.endpoint_by_path:
            endpoint, model = self.endpoint_by_path[scope["path"]]
            query = _read_query(model, scope["query_string"]) if len(scope["query_string"]) <= _LONGEST_QUERY else None
            if query is not None:
                return await self._answer(endpoint, query, scope, receive, send)
        return await self._app(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, query: StrictQuery, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await endpoint(request, query)
        except RequestError as error:
            response = problem_response(error)
        except ClientDisconnect:
            return  # nobody is there to read an answer
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets a 500 and the log the rest
            response = await self._on_unforeseen(request, error)
        await response(scope, receive, send)


@lru_cache(maxsize=256)
def _read_query(model: type[StrictQuery], query_string: bytes) -> StrictQuery | None:
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query_string))
        if len(dict(pairs)) < len(pairs) or not all(value for _, value in pairs):
            return None
        return model.model_validate(dict(pairs))
    except ValueError:  # not ASCII, no pairs, or values that the model refuses
        return None
