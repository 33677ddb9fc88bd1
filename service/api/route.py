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

from service.api.schemas import StrictQuery
from service.api.service import service_of
from service.http.admission import Slot

_SLOT = "hourglass.slot"  # where a request's scope holds its place in the queue
_LONGEST_QUERY = 256  # bytes; longer ones are not worth remembering
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})


class AdmittedRoute(APIRoute):
    """A route whose requests hold a place in the queue until their answer is made."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request: admit, read the query, call the endpoint."""
        plain, endpoint = super().get_route_handler(), self.endpoint
        parameters = typing.get_type_hints(endpoint)
        model = parameters["query"] if parameters.keys() == {"request", "query", "return"} else None

        async def handle(request: Request) -> Response:
            with service_of(request).admission.admit() as slot:
                request.scope[_SLOT] = slot
                if request.method in _WITHOUT_BODY:
                    slot.start(request, 1)
                query = None if model is None else _read_query(model, request.scope["query_string"])
                if query is None:
                    return await plain(request)
                response: Response = await endpoint(request, query)
                return response

        return handle


def slot_of(request: Request) -> Slot:
    """Return the place in the queue of a request to an `AdmittedRoute`."""
    slot: Slot = request.scope[_SLOT]
    return slot


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
