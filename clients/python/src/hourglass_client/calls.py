"""Every request that a client can make, and what to make of its answer. Nothing here talks to anyone."""

import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hourglass_client.answers import (
    HOURGLASS_TYPE,
    NPY_TYPE,
    Classification,
    Latent,
    Model,
    Neighbour,
    Picture,
    Verdict,
    classification_of,
    model_of,
    neighbours_of,
    verdict_of,
)

T = TypeVar("T")

# A path, the bytes of a file, an image of Pillow, or an array: float32 in [0, 1] or uint8, (H, W), (C, H, W) or
# (N, C, H, W).
ImageLike = str | Path | bytes | Image.Image | NDArray[Any]
Headers = Mapping[str, str]
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what reads its answer: headers in lower case, and the body."""

    method: str
    path: str
    read: Callable[[Headers, bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


def picture(path: str, image: ImageLike, *, accept: str | None, query: Mapping[str, object]) -> Call[Picture]:
    """An endpoint that takes an image and gives one."""
    content, kind = to_body(image)
    headers = {"Content-Type": kind} | ({"Accept": accept} if accept else {})
    return Call("POST", path, read_picture, _query(query), headers, content)


def encode(image: ImageLike, *, query: Mapping[str, object]) -> Call[Latent]:
    """An image's latent."""
    content, kind = to_body(image)
    headers = {"Content-Type": kind, "Accept": NPY_TYPE}  # exact, and a hundredth of JSON's cost

    def read(headers: Headers, content: bytes) -> Latent:
        return Latent(np.load(io.BytesIO(content), allow_pickle=False), headers.get("x-model", ""))

    return Call("POST", "/encode", read, _query(query), headers, content)


def decode(latent: Latent | ArrayLike, *, accept: str | None, query: Mapping[str, object]) -> Call[Picture]:
    """The image of a latent; several give a ZIP or an array. A `Latent` goes to the model that made it."""
    if isinstance(latent, Latent):
        query = _made_by(latent) | {k: v for k, v in query.items() if v is not None}
        values = latent.values
    else:
        values = np.asarray(latent, np.float32)
    headers = {"Content-Type": NPY_TYPE} | ({"Accept": accept} if accept else {})
    return Call("POST", "/decode", read_picture, _query(query), headers, to_npy(values))


def generate(body: Mapping[str, object], *, accept: str | None, query: Mapping[str, object]) -> Call[Picture]:
    """New images; `body` holds count, seed, temperature and label."""
    headers = {"Content-Type": JSON_TYPE} | ({"Accept": accept} if accept else {})
    return Call("POST", "/generate", read_picture, _query(query), headers, json.dumps(body).encode())


def interpolate(
    first: ImageLike | Latent, last: ImageLike | Latent, *, accept: str | None, query: Mapping[str, object]
) -> Call[Picture]:
    """The images between two images or two latents of one model."""
    if isinstance(first, Latent) and isinstance(last, Latent):
        if first.model != last.model:
            raise ValueError(f"the latents are of {first.model} and {last.model}; the way is through one model's")
        query = _made_by(first) | {k: v for k, v in query.items() if v is not None}
        content, kind = to_npy(np.stack([first.values, last.values])), NPY_TYPE
    elif isinstance(first, Latent) or isinstance(last, Latent):
        raise TypeError(
            "the way leads from an image to an image or from a latent to a latent, not from one to the other"
        )
    else:
        content, kind = _form([to_body(first), to_body(last)])
    headers = {"Content-Type": kind} | ({"Accept": accept} if accept else {})
    return Call("POST", "/interpolate", read_picture, _query(query), headers, content)


def anomaly(image: ImageLike, *, query: Mapping[str, object]) -> Call[Verdict]:
    """The verdict on one image."""
    content, kind = to_body(image)
    headers = {"Content-Type": kind, "Accept": "application/json"}

    def read(_: Headers, content: bytes) -> Verdict:
        return verdict_of(json.loads(content))

    return Call("POST", "/anomaly", read, _query(query), headers, content)


def compress(images: ImageLike | Sequence[ImageLike], *, query: Mapping[str, object]) -> Call[Picture]:
    """One file of one image or several."""
    if isinstance(images, str | Path | bytes | Image.Image | np.ndarray):
        images = [images]
    bodies = [to_body(image) for image in images]
    content, kind = bodies[0] if len(bodies) == 1 else _form(bodies)
    return Call("POST", "/compress", read_picture, _query(query), {"Content-Type": kind}, content)


def decompress(file: Picture | str | Path | bytes, *, accept: str | None, query: Mapping[str, object]) -> Call[Picture]:
    """The images of such a file."""
    content = file.content if isinstance(file, Picture) else to_body(file)[0]
    headers = {"Content-Type": HOURGLASS_TYPE} | ({"Accept": accept} if accept else {})
    return Call("POST", "/decompress", read_picture, _query(query), headers, content)


def put_item(
    collection: str,
    item_id: str,
    image: ImageLike | Latent,
    *,
    metadata: Mapping[str, Any] | None,
    query: Mapping[str, object],
) -> Call[dict[str, Any]]:
    """Keeps one image, or one latent, in a collection."""
    content, kind = _vector_body(image)
    headers = {"Content-Type": kind} | ({} if metadata is None else {"X-Metadata": json.dumps(metadata)})
    return Call("PUT", item_path(collection, item_id), _read_object, _query(query), headers, content)


def search(collection: str, image: ImageLike | Latent, *, k: int) -> Call[tuple[Neighbour, ...]]:
    """What is near one image or latent."""
    content, kind = _vector_body(image)

    def read(_: Headers, content: bytes) -> tuple[Neighbour, ...]:
        return neighbours_of(json.loads(content))

    return Call("POST", f"{collection_path(collection)}/search", read, {"k": str(k)}, {"Content-Type": kind}, content)


def classify(collection: str, image: ImageLike | Latent, *, k: int) -> Call[Classification]:
    """What one image or latent shows."""
    content, kind = _vector_body(image)

    def read(_: Headers, content: bytes) -> Classification:
        return classification_of(json.loads(content))

    return Call("POST", f"{collection_path(collection)}/classify", read, {"k": str(k)}, {"Content-Type": kind}, content)


def delete(path: str) -> Call[None]:
    """Anything that is deleted by its address."""
    return Call("DELETE", path, lambda _, __: None)


def collections() -> Call[list[dict[str, Any]]]:
    """All collections."""

    def read(_: Headers, content: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(content)
        return found

    return Call("GET", "/collections", read)


def collection_path(collection: str) -> str:
    """The address of a collection."""
    return f"/collections/{quote(collection, safe='')}"


def item_path(collection: str, item_id: str) -> str:
    """The address of an item."""
    return f"{collection_path(collection)}/items/{quote(item_id)}"


def models() -> Call[list[Model]]:
    """The live models."""

    def read(_: Headers, content: bytes) -> list[Model]:
        return [model_of(document) for document in json.loads(content)]

    return Call("GET", "/models", read)


def document(path: str, query: Mapping[str, object]) -> Call[dict[str, Any]]:
    """Anything that answers with a JSON object."""
    return Call("GET", path, _read_object, _query(query))


def to_body(image: ImageLike) -> tuple[bytes, str]:
    """The body for an image, and its Content-Type. The service looks at the bytes, so files are sent as they are.

    Raises:
        OSError: A path cannot be read.
        TypeError: It is no image.
    """
    match image:
        case str() | Path():
            return Path(image).read_bytes(), "application/octet-stream"
        case bytes():
            return image, "application/octet-stream"
        case Image.Image():
            file = io.BytesIO()
            image.save(file, "PNG")
            return file.getvalue(), "image/png"
        case np.ndarray():
            return to_npy(image), NPY_TYPE
    raise TypeError(f"an image is a path, bytes, a Pillow image or an array, not {type(image).__name__}")


def to_npy(array: NDArray[Any]) -> bytes:
    """The array as an NPY file; float64 becomes float32."""
    file = io.BytesIO()
    np.save(file, array.astype(np.float32) if array.dtype == np.float64 else array, allow_pickle=False)
    return file.getvalue()


def read_picture(headers: Headers, content: bytes) -> Picture:
    """An image or array from an answer."""
    kind = headers.get("content-type", "").partition(";")[0]
    seed = headers.get("x-seed")
    return Picture(content, kind, headers.get("x-model"), headers.get("x-resize"), None if seed is None else int(seed))


def _read_object(_: Headers, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    return found


def _vector_body(image: ImageLike | Latent) -> tuple[bytes, str]:
    """A `Latent` goes with the name of its maker, so that the service can refuse it where it does not belong."""
    if not isinstance(image, Latent):
        return to_body(image)
    if image.values.ndim != 1:
        raise ValueError(f"the latent has shape {image.values.shape}; send one at a time, (D,)")
    name, _, version = image.model.partition("/")
    document = {"model": name, "version": int(version), "latent": image.values.tolist()}
    return json.dumps(document).encode(), JSON_TYPE


def _made_by(latent: Latent) -> dict[str, object]:
    name, _, version = latent.model.partition("/")
    return {"model": name, "version": version}


_DISPOSITION = 'Content-Disposition: form-data; name="file"; filename="image"'


def _form(files: Sequence[tuple[bytes, str]]) -> tuple[bytes, str]:
    """The files as fields `file` of multipart/form-data, and its Content-Type."""
    boundary = uuid.uuid4().hex  # in no file, but for a chance of 1 in 2^122
    parts = [
        f"--{boundary}\r\n{_DISPOSITION}\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"
        for content, kind in files
    ]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _query(query: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}
