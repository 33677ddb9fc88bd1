"""All requests of the clients and the parsers of their answers, without any I/O."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from hourglass_client.answers import (
    HOURGLASS_TYPE,
    NPY_TYPE,
    Alias,
    Classification,
    Latent,
    Model,
    Neighbour,
    Picture,
    Verdict,
    alias_of,
    classification_of,
    model_of,
    neighbours_of,
    verdict_of,
)
from hourglass_client.arrays import SERVICE_ORDER, ArrayOrder
from hourglass_client.bodies import Body, ImageLike, to_body, to_form, to_npy, with_ignored

T = TypeVar("T")

Headers = Mapping[str, str]
JSON_TYPE = "application/json"
COLLECTIONS_PAGE = 1000  # the most that the service lists at once


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and the function that parses its answer (headers in lower case, body)."""

    method: str
    path: str
    read: Callable[[Headers, bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


def picture(
    path: str,
    image: ImageLike,
    *,
    accept: str | None,
    query: Mapping[str, object],
    order: ArrayOrder,
    ignore: ImageLike | None = None,
) -> Call[Picture]:
    """Make a call to an endpoint that takes an image and returns one."""
    body = with_ignored(image, ignore, order)
    headers = {"Content-Type": body.media_type} | ({"Accept": accept} if accept else {})
    # A map of scores has no channels: (H, W), or (N, H, W) for several.
    answer_order = SERVICE_ORDER if path == "/anomaly" and accept == NPY_TYPE else order
    return Call("POST", path, partial(read_picture, order=answer_order), _query(query), headers, body.content)


def encode(image: ImageLike, *, query: Mapping[str, object], order: ArrayOrder) -> Call[Latent]:
    """Make a call to `/encode`."""
    body = to_body(image, order)
    headers = {"Content-Type": body.media_type, "Accept": NPY_TYPE}  # exact, and a hundredth of JSON's cost

    def read(headers: Headers, content: bytes) -> Latent:
        return Latent(np.load(io.BytesIO(content), allow_pickle=False), headers.get("x-model", ""))

    return Call("POST", "/encode", read, _query(query), headers, body.content)


def decode(
    latent: Latent | ArrayLike, *, accept: str | None, query: Mapping[str, object], order: ArrayOrder
) -> Call[Picture]:
    """Make a call to `/decode`. A `Latent` is sent to the model version that made it."""
    if isinstance(latent, Latent):
        query = _made_by(latent) | {k: v for k, v in query.items() if v is not None}
        values = latent.values
    else:
        values = np.asarray(latent, np.float32)
    headers = {"Content-Type": NPY_TYPE} | ({"Accept": accept} if accept else {})
    return Call("POST", "/decode", partial(read_picture, order=order), _query(query), headers, to_npy(values))


def generate(
    body: Mapping[str, object], *, accept: str | None, query: Mapping[str, object], order: ArrayOrder
) -> Call[Picture]:
    """Make a call to `/generate`; `body` has count, seed, temperature and label."""
    headers = {"Content-Type": JSON_TYPE} | ({"Accept": accept} if accept else {})
    read = partial(read_picture, order=order)
    return Call("POST", "/generate", read, _query(query), headers, json.dumps(body).encode())


def interpolate(
    first: ImageLike | Latent,
    last: ImageLike | Latent,
    *,
    accept: str | None,
    query: Mapping[str, object],
    order: ArrayOrder,
) -> Call[Picture]:
    """Make a call to `/interpolate` with two images, or two latents of one model."""
    if isinstance(first, Latent) and isinstance(last, Latent):
        if first.model != last.model:
            raise ValueError(f"the latents are of {first.model} and {last.model}; both must be of one model")
        query = _made_by(first) | {k: v for k, v in query.items() if v is not None}
        body = Body(to_npy(np.stack([first.values, last.values])), NPY_TYPE)
    elif isinstance(first, Latent) or isinstance(last, Latent):
        raise TypeError("interpolate between two images or between two latents, not between an image and a latent")
    else:
        body = to_form([to_body(first, order), to_body(last, order)])
    headers = {"Content-Type": body.media_type} | ({"Accept": accept} if accept else {})
    return Call("POST", "/interpolate", partial(read_picture, order=order), _query(query), headers, body.content)


def anomaly(
    image: ImageLike, *, query: Mapping[str, object], order: ArrayOrder, ignore: ImageLike | None = None
) -> Call[Verdict]:
    """Make a call to `/anomaly`."""
    body = with_ignored(image, ignore, order)
    headers = {"Content-Type": body.media_type, "Accept": JSON_TYPE}

    def read(_: Headers, content: bytes) -> Verdict:
        return verdict_of(json.loads(content))

    return Call("POST", "/anomaly", read, _query(query), headers, body.content)


def compress(
    images: ImageLike | Sequence[ImageLike], *, query: Mapping[str, object], order: ArrayOrder
) -> Call[Picture]:
    """Make a call to `/compress`."""
    if isinstance(images, str | Path | bytes | Image.Image | np.ndarray):
        images = [images]
    bodies = [to_body(image, order) for image in images]
    body = bodies[0] if len(bodies) == 1 else to_form(bodies)
    return Call("POST", "/compress", read_picture, _query(query), {"Content-Type": body.media_type}, body.content)


def decompress(
    file: Picture | str | Path | bytes, *, accept: str | None, query: Mapping[str, object], order: ArrayOrder
) -> Call[Picture]:
    """Make a call to `/decompress`."""
    content = file.content if isinstance(file, Picture) else to_body(file, order).content
    headers = {"Content-Type": HOURGLASS_TYPE} | ({"Accept": accept} if accept else {})
    return Call("POST", "/decompress", partial(read_picture, order=order), _query(query), headers, content)


def put_item(
    collection: str,
    item_id: str,
    image: ImageLike | Latent,
    *,
    metadata: Mapping[str, Any] | None,
    query: Mapping[str, object],
    order: ArrayOrder,
) -> Call[dict[str, Any]]:
    """Make a call that stores an image or latent in a collection."""
    body = _vector_body(image, order)
    headers = {"Content-Type": body.media_type} | ({} if metadata is None else {"X-Metadata": json.dumps(metadata)})
    return Call("PUT", item_path(collection, item_id), _read_object, _query(query), headers, body.content)


def search(collection: str, image: ImageLike | Latent, *, k: int, order: ArrayOrder) -> Call[tuple[Neighbour, ...]]:
    """Make a call that searches the neighbours of an image or latent."""
    body = _vector_body(image, order)

    def read(_: Headers, content: bytes) -> tuple[Neighbour, ...]:
        return neighbours_of(json.loads(content))

    path, headers = f"{collection_path(collection)}/search", {"Content-Type": body.media_type}
    return Call("POST", path, read, {"k": str(k)}, headers, body.content)


def classify(collection: str, image: ImageLike | Latent, *, k: int, order: ArrayOrder) -> Call[Classification]:
    """Make a call that classifies an image or latent."""
    body = _vector_body(image, order)

    def read(_: Headers, content: bytes) -> Classification:
        return classification_of(json.loads(content))

    path, headers = f"{collection_path(collection)}/classify", {"Content-Type": body.media_type}
    return Call("POST", path, read, {"k": str(k)}, headers, body.content)


def delete(path: str) -> Call[None]:
    """Make a DELETE call."""
    return Call("DELETE", path, lambda _, __: None)


def collections(*, after: str = "") -> Call[list[dict[str, Any]]]:
    """Make a call that lists the collections whose names follow `after`, a page at a time."""

    def read(_: Headers, content: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(content)
        return found

    return Call("GET", "/collections", read, {"after": after, "limit": f"{COLLECTIONS_PAGE}"})


def collection_path(collection: str) -> str:
    """Return the path of a collection."""
    return f"/collections/{quote(collection, safe='')}"


def item_path(collection: str, item_id: str) -> str:
    """Return the path of an item."""
    return f"{collection_path(collection)}/items/{quote(item_id)}"


def aliases(model: str) -> Call[list[Alias]]:
    """Make a call that lists the aliases of a model."""

    def read(_: Headers, content: bytes) -> list[Alias]:
        return [alias_of(document) for document in json.loads(content)["aliases"]]

    return Call("GET", f"/models/{quote(model, safe='')}/aliases", read)


def set_alias(model: str, alias: str, meaning: Mapping[str, object]) -> Call[Alias]:
    """Make a call that sets the version of an alias."""
    document = {name: value for name, value in meaning.items() if value is not None}
    headers = {"Content-Type": JSON_TYPE}
    return Call("PUT", alias_path(model, alias), _read_alias, {}, headers, json.dumps(document).encode())


def roll_back(model: str, alias: str) -> Call[Alias]:
    """Make a call that rolls back an alias."""
    return Call("POST", f"{alias_path(model, alias)}/rollback", _read_alias)


def alias_path(model: str, alias: str) -> str:
    """Return the path of an alias."""
    return f"/models/{quote(model, safe='')}/aliases/{quote(alias, safe='')}"


def models() -> Call[list[Model]]:
    """Make a call that lists the live models."""

    def read(_: Headers, content: bytes) -> list[Model]:
        return [model_of(document) for document in json.loads(content)]

    return Call("GET", "/models", read)


def document(path: str, query: Mapping[str, object]) -> Call[dict[str, Any]]:
    """Make a GET call that answers with a JSON object."""
    return Call("GET", path, _read_object, _query(query))


def read_picture(headers: Headers, content: bytes, *, order: ArrayOrder = SERVICE_ORDER) -> Picture:
    """Parse the image or array of an answer."""
    kind = headers.get("content-type", "").partition(";")[0]
    seed = headers.get("x-seed")
    return Picture(
        content, kind, headers.get("x-model"), headers.get("x-resize"), None if seed is None else int(seed), order
    )


def _read_alias(_: Headers, content: bytes) -> Alias:
    return alias_of(json.loads(content))


def _read_object(_: Headers, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    return found


def _vector_body(image: ImageLike | Latent, order: ArrayOrder) -> Body:
    """Encode a latent with its model version, so that the service can reject it for another model."""
    if not isinstance(image, Latent):
        return to_body(image, order)
    if image.values.ndim != 1:
        raise ValueError(f"the latent has shape {image.values.shape}; send one at a time, (D,)")
    name, _, version = image.model.partition("/")
    document = {"model": name, "version": int(version), "latent": image.values.tolist()}
    return Body(json.dumps(document).encode(), JSON_TYPE)


def _made_by(latent: Latent) -> dict[str, object]:
    name, _, version = latent.model.partition("/")
    return {"model": name, "version": version}


def _query(query: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}
