"""Answers of the tasks as HTTP responses: one as it is, several as a JSON list, one array, or a ZIP."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from service.errors import InvalidArray, RequestError, problem_bytes
from service.http.encoding import write_json
from service.images.formats import PICTURE_TYPES, extension_of
from service.images.npy import write_npy
from service.media_types import JSON_TYPE, NPY_TYPE, ZIP_TYPE
from service.tasks.answer import Answer, Entry, entry_name, write_zip

_EXTENSIONS = {NPY_TYPE: "npy"} | {kind: extension_of(kind) for kind in PICTURE_TYPES}


class Stream(StreamingResponse):
    """An answer that is made while it is sent. It is closed at its end, also where that is the client's leaving."""

    async def stream_response(self, send: Send) -> None:
        """Send the parts, and close what makes them."""
        assert isinstance(self.body_iterator, AsyncGenerator)  # noqa: S101  for the type checker
        async with contextlib.aclosing(self.body_iterator):
            await super().stream_response(send)


class _Single(Response):
    """A response whose headers are complete: Starlette would first look for those that it adds."""

    def __init__(self, content: bytes, raw_headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.background, self.body, self.raw_headers = 200, None, content, raw_headers


def single_response(answer: Answer, label: str) -> Response:
    """Return the response for one result, with headers for the model and the resizing."""
    headers = [
        (b"x-model", label.encode("latin-1")),
        (b"content-length", b"%d" % len(answer.content)),
        (b"content-type", answer.media_type.encode("latin-1")),
    ]
    if answer.resize is not None:
        headers.append((b"x-resize", answer.resize.encode("latin-1")))
    if answer.sigma is not None:
        headers.append((b"x-sigma", b"%.4g" % answer.sigma))
    return _Single(answer.content, headers)


def json_response(document: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a document as JSON."""
    return Response(write_json(document), status, media_type=JSON_TYPE, headers=headers)


def several_response(
    results: Sequence[Answer | RequestError], media_type: str, label: str, names: Sequence[str | None]
) -> Response:
    """Return the response for several files: a result or problem each, in order.

    Args:
        results: The result of each file.
        media_type: JSON for a list; NPY for one array; anything else for a ZIP, with what happened to each file in
            `results.json`.
        label: Label of the model.
        names: Names of the files, as the client has them; None if it has none.

    Raises:
        RequestError: As one array, where a file has a problem or the sizes differ.
    """
    match media_type:
        case "application/json":
            documents = [_document(result, name) for result, name in zip(results, names, strict=True)]
            content, kind = write_json(documents), JSON_TYPE
        case "application/x-npy":
            content, kind = _stack(results), NPY_TYPE
        case _:
            content, kind = _zip(results, label, names), ZIP_TYPE
    return Response(content, media_type=kind, headers={"X-Model": label})


def _document(result: Answer | RequestError, name: str | None) -> object:
    found = result.problem() if isinstance(result, RequestError) else result.value
    return {"source": name, **found} if name is not None and isinstance(found, dict) else found


def _stack(results: Sequence[Answer | RequestError]) -> bytes:
    arrays = []
    for result in results:
        if isinstance(result, RequestError):
            raise result
        arrays.append(np.asarray(result.value))
    if len({array.shape for array in arrays}) > 1:
        raise InvalidArray("the results differ in size, so they do not fit one array; request application/zip")
    return write_npy(np.stack(arrays))


def _zip(results: Sequence[Answer | RequestError], label: str, names: Sequence[str | None]) -> bytes:
    entries: list[Entry] = []
    rows: list[JsonValue] = []
    for i, (result, sent) in enumerate(zip(results, names, strict=True)):
        source: dict[str, JsonValue] = {} if sent is None else {"source": sent}
        if isinstance(result, RequestError):
            rows.append({"file": None, **source, "problem": result.problem()})
            continue
        name = entry_name(i, sent, _EXTENSIONS[result.media_type])
        entries.append(Entry(name, result.content))
        beside: dict[str, Any] = {} if result.sigma is None else {"sigma": result.sigma}
        if isinstance(result.value, dict):
            beside |= result.value
        rows.append({"file": name, **source, "model": label, "resize": result.resize, **beside})
    return write_zip([*entries, Entry("results.json", problem_bytes(rows))])
