"""The description of the API as the API page shows it: with the live models to choose from, and pictures to try."""

import copy
from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute

from service.api.docs_v2 import TAG, describe_v2
from service.api.openapi import Schema
from service.contract.manifest import TASKS, Task
from service.models.snapshot import Snapshot

# One picture or two to try each endpoint with, below `static/docs/`.
EXAMPLES_BY_PATH: Mapping[str, tuple[str, ...]] = {
    "/denoise": ("digit_noisy.png", "hazelnut.jpg"),
    "/enhance": ("hazelnut.jpg",),
    "/encode": ("digit.png",),
    "/anomaly": ("hazelnut.jpg", "digit.png"),
    "/interpolate": ("digit.png", "digit_two.png"),
    "/compress": ("hazelnut.jpg", "digit.png"),
    "/collections/{collection}/items/{id}": ("digit.png",),
    "/collections/{collection}/search": ("digit_two.png",),
    "/collections/{collection}/classify": ("digit_two.png",),
    "/models/{name}/feedback": ("hazelnut.jpg",),
}
_TAGS = [
    {"name": "images", "description": "One image, several, or an array: see `docs/api.md`."},
    {"name": "collections", "description": "Images by their latents: the nearest ones, or a label by vote."},
    {"name": "models", "description": "What is live, how good it is, and what people say of its verdicts."},
    {"name": "aliases", "description": "Names for versions, with a candidate, a shadow and a way back."},
    {"name": "training", "description": "The next version of a model, made from feedback by a training worker."},
    {"name": "jobs", "description": "Requests that asked to be answered later, with `Prefer: respond-async`."},
    {"name": "health", "description": "For what starts, balances and watches the service."},
    TAG,
]
_ABOUT = """

The examples of errors are what the service really says."""


def document_for_people(document: Schema, snapshot: Snapshot, v2: Sequence[BaseRoute]) -> Schema:
    """Return a copy of the API's description for the API page.

    Names of models become an enumeration of those that are live, endpoints link to pictures to try, and `v2`, the
    routes of the Open Inference Protocol, are there, too. The description itself has none of it: a client that is made
    from it must outlive the models.
    """
    shown = copy.deepcopy(document)
    shown["servers"] = [{"url": ".."}]  # seen from docs/openapi.json, also below a path prefix
    shown["tags"] = _TAGS
    shown["info"]["description"] += _ABOUT
    for path, item in shown["paths"].items():
        for method, operation in item.items():
            for parameter in operation.get("parameters", ()):
                if names := _names(parameter, path, snapshot):
                    parameter["schema"] = {"type": "string", "enum": names}
            if method in {"post", "put"} and path in EXAMPLES_BY_PATH:
                links = ", ".join(f"[{name}](page/docs/{name})" for name in EXAMPLES_BY_PATH[path])
                operation["description"] = f"{operation.get('description', '')}\n\nTo try it with: {links}."
    shown["paths"] |= describe_v2(v2, snapshot)
    return shown


def _names(parameter: Schema, path: str, snapshot: Snapshot) -> list[str]:
    """Return the live models that a parameter can name; none if it names no model."""
    if parameter["in"] == "path" and parameter["name"] == "name" and path.startswith("/models/"):
        return sorted(snapshot.model_by_name)
    if parameter["in"] != "query" or parameter["name"] != "model":
        return []
    first = path.split("/")[1]
    task: Task = next((task for task in TASKS if task == first), "encode")  # interpolation and collections encode
    return list(snapshot.offering(task))
