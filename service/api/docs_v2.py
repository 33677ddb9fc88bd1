"""The addresses below /v2 as the API page shows them.

They are a protocol of others, so the description that clients are made from leaves them out.
"""

import re
from collections.abc import Sequence
from inspect import cleandoc

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from service.api.openapi import Schema
from service.media_types import JSON_TYPE
from service.models.model import Model
from service.models.snapshot import Snapshot

TAG: Schema = {
    "name": "v2",
    "description": "The Open Inference Protocol, for clients of Triton and KServe: the graphs themselves, float32 in "
    "and out. A model there is one task of one of ours, such as `digits.denoise`. See `docs/v2.md`.",
}
_MOST_VALUES = 1024  # of a tensor in an example


def describe_v2(routes: Sequence[BaseRoute], snapshot: Snapshot) -> dict[str, Schema]:
    """Return the operations of each path: what the endpoints say of themselves, with the live models to choose from."""
    paths: dict[str, Schema] = {}
    for route in routes:
        if isinstance(route, APIRoute):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, method, snapshot)
    return paths


def _operation(route: APIRoute, method: str, snapshot: Snapshot) -> Schema:
    summary, _, more = cleandoc(route.endpoint.__doc__ or "").partition("\n\n")
    operation: Schema = {
        "tags": [TAG["name"]],
        "operationId": re.sub(r"\W+", "_", f"{method} {route.path}").lower(),
        "summary": summary.rstrip("."),
        "description": more,
        "parameters": [
            {"in": "path", "name": name, "required": True, "schema": _schema(name, snapshot)}
            for name in re.findall(r"{(\w+)}", route.path)
        ],
        "responses": {
            "200": {"description": "As the protocol has it"},
            "default": {"description": '`{"error": "..."}`, with the status of the same error elsewhere'},
        },
    }
    if route.path.endswith("/infer"):
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"example": _example(snapshot)}}}
    return operation


def _schema(name: str, snapshot: Snapshot) -> Schema:
    if name == "version":
        return {"type": "string", "example": "1"}
    names = [
        f"{name}.{task}" for name, model in sorted(snapshot.model_by_name.items()) for task in model.manifest.tasks
    ]
    return {"type": "string", "enum": names} if names else {"type": "string"}


def _example(snapshot: Snapshot) -> Schema:
    """Zeros for the first model that takes few enough."""
    for _, model in sorted(snapshot.model_by_name.items()):
        if inputs := _zeros(model):
            return {"inputs": inputs}
    return {"inputs": []}


def _zeros(model: Model) -> list[Schema]:
    size = model.manifest.input
    if not size.height or not size.width or size.channels * size.height * size.width > _MOST_VALUES:
        return []
    spec = next(iter(model.manifest.tasks.values())).inputs[0]
    shape = [1, size.channels, size.height, size.width]
    data = [0] * (size.channels * size.height * size.width)
    return [{"name": spec.name, "datatype": "FP32", "shape": shape, "data": data}]
