"""The parts of the API page that types cannot say: binary bodies, negotiated answers, problems with examples."""

from collections.abc import Sequence
from typing import Any

from service.errors import (
    PROBLEM_JSON,
    InternalError,
    JobsFull,
    KeyNotEnough,
    MissingApiKey,
    RequestError,
    StoreUnavailable,
    TooManyGuesses,
    WrongApiKey,
    problem_head,
)
from service.http.api_keys import is_open
from service.images.formats import ANIMATION_TYPES, FORMATS, PICTURE_TYPES
from service.media_types import HOURGLASS_TYPE, JSON_TYPE, NPY_TYPE

# Any throughout: an OpenAPI document is JSON of arbitrary depth.
Schema = dict[str, Any]

BINARY: Schema = {"type": "string", "format": "binary"}
IMAGES_IN = tuple(entry.media_type for entry in FORMATS)
PICTURES: dict[str, Schema] = {kind: {"schema": BINARY} for kind in PICTURE_TYPES}
NPY: dict[str, Schema] = {NPY_TYPE: {"schema": BINARY}}
ANIMATIONS: dict[str, Schema] = {kind: {"schema": BINARY} for kind in ANIMATION_TYPES}
ZIP: dict[str, Schema] = {"application/zip": {"schema": BINARY}}
HOURGLASS: dict[str, Schema] = {HOURGLASS_TYPE: {"schema": BINARY}}
MARKDOWN: dict[str, Schema] = {"text/markdown": {"schema": {"type": "string"}}}
TEXT: dict[str, Schema] = {
    kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
}

ANY: dict[str, Schema] = {"*/*": {"schema": BINARY}}
EVENTS: dict[str, Schema] = {"text/event-stream": {"schema": {"type": "string"}}}

_HEADERS: Schema = {
    "X-Model": {"description": "The model that answered: name/version", "schema": {"type": "string"}},
    "ETag": {"description": "Send it in If-None-Match: 304 if nothing has changed", "schema": {"type": "string"}},
    "X-Resize": {
        "description": "Resizing applied, width x height: `fit 640x480 -> 28x21 in 28x28`; absent if none",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the job is", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "Which preference was heeded", "schema": {"type": "string"}},
    "X-Seed": {"description": "Draws the same images again", "schema": {"type": "string"}},
    "X-Sigma": {
        "description": "Noise level used, 0-255 units; absent if the model takes none",
        "schema": {"type": "string"},
    },
}

_PREFER: Schema = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async` makes the request a job: 202, with its address in Location",
    "schema": {"type": "string"},
}

NO_CONTENT: dict[int | str, Schema] = {204: {"description": "Done", "content": {}}}
NOT_MODIFIED: dict[int | str, Schema] = {304: {"description": "What If-None-Match names is still right", "content": {}}}


def success(
    description: str,
    content: dict[str, Schema] | None = None,
    *,
    model: Any = None,  # noqa: ANN401  a type, or a union of types
    headers: Sequence[str] = (),
) -> dict[int | str, Schema]:
    """Describe the 200 of an endpoint.

    Args:
        description: What the answer is.
        content: Schemas by media type, for answers that are no JSON.
        model: Type of the JSON answer.
        headers: Names of our headers that it has.
    """
    answer: Schema = {"description": description, "headers": {name: _HEADERS[name] for name in headers}}
    if model is not None:
        answer["model"] = model
        content = {JSON_TYPE: {}, **(content or {})}  # the first is what generated clients read
    if content is not None:
        answer["content"] = content
    return {200: answer}


def with_job(
    responses: dict[int | str, Schema], extra: Schema | None, job: type
) -> tuple[dict[int | str, Schema], Schema]:
    """Describe that a request may also become a job.

    Args:
        responses: Responses of the endpoint.
        extra: Further keywords of its schema.
        job: Type of a job.

    Returns:
        Both, with the 202, the problems of jobs, and the header that asks for one.
    """
    accepted: dict[int | str, Schema] = {
        202: success("The request has become a job.", model=job, headers=["Location", "Preference-Applied"])[200]
    }
    busy = problems(JobsFull, StoreUnavailable)[503]
    known = responses.get(503)
    if known is not None:
        examples = known["content"][PROBLEM_JSON]["examples"] | busy["content"][PROBLEM_JSON]["examples"]
        content = {PROBLEM_JSON: {**known["content"][PROBLEM_JSON], "examples": examples}}
        busy = {"description": f"{known['description']}; {busy['description']}", "content": content}
    parameters = [*(extra or {}).get("parameters", []), _PREFER]
    return {**responses, **accepted, 503: busy}, {**(extra or {}), "parameters": parameters}


def problems(*errors: type[RequestError]) -> dict[int | str, Schema]:
    """Return one response per status, with an example per error. Every endpoint can fail with 500."""
    by_status: dict[int, list[type[RequestError]]] = {}
    all_errors: tuple[type[RequestError], ...] = (*errors, InternalError)
    for error in all_errors:
        by_status.setdefault(error.status, []).append(error)
    return {status: _problem_response(by_status[status]) for status in sorted(by_status)}


def _problem_response(errors: Sequence[type[RequestError]]) -> Schema:
    examples = {e.code: {"summary": e.title, "value": {**problem_head(e), "detail": e.example}} for e in errors}
    return {
        "description": "; ".join(error.title for error in errors),
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def add_security(document: Schema) -> Schema:
    """Return the document with the two ways to send an API key, at every endpoint that wants one."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            if not is_open(path):
                operation["security"] = [{"bearer": []}, {"header": []}]
                refused = problems(MissingApiKey, WrongApiKey, KeyNotEnough, TooManyGuesses)
                refusals = {str(status): answer for status, answer in refused.items()}
                operation["responses"] = {**refusals, **operation["responses"]}
    return document
