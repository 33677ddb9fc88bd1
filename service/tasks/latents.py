"""Read latents of a request, NPY or JSON, to an array (N, dim)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidArray, InvalidLatent, TooManyImages, shown
from service.http.body import parse_json
from service.images.npy import NPY_MAGIC, peek, read_header, read_values, shown_shape


def count_latents(data: bytes, *, at_most: int) -> int:
    """Estimate the number of latents in a body, from 1 to `at_most`.

    For admission, before the body is parsed: cheap, and exact for valid bodies.
    """
    if data.startswith(NPY_MAGIC):
        shape = peek(data).shape
        count = shape[0] if len(shape) == 2 else 1
    else:
        count = data.count(b"[") - 1  # {"latents": [[..], [..]]}
    return min(max(count, 1), at_most)


def read_npy_latents(data: bytes, *, dim: int, max_latents: int) -> tuple[NDArray[np.float32], bool]:
    """Read latents from an NPY file, float32, (dim,) or (N, dim).

    Returns:
        The latents, (N, dim), and whether the file has the shape (dim,).

    Raises:
        InvalidArray: The file is invalid or not float32.
        InvalidLatent: The shape is wrong, or a value is not finite.
        TooManyImages: There are more than `max_latents`.
    """
    dtype, shape, is_fortran, start = read_header(data)
    if dtype.newbyteorder("=") != np.float32:
        raise InvalidArray(f"the array is {dtype}; latents are float32")
    if len(shape) not in {1, 2} or shape[-1] != dim or 0 in shape:
        raise InvalidLatent(f"the array has shape {shown_shape(shape)}; send ({dim},) or (N, {dim})")
    if len(shape) == 2 and shape[0] > max_latents:
        raise TooManyImages(f"the array holds {shape[0]} latents, the limit is {max_latents} (setting max_images)")
    z = read_values(data, dtype, shape, is_fortran, start).reshape(-1, dim)
    return _finite_latents(z), len(shape) == 1


_ENCODE_HEAD = {"model", "version", "resize", "source"}  # members of an answer of /encode other than its latents


def read_json_latents(
    data: bytes, *, dim: int, max_latents: int, model: str, version: int
) -> tuple[NDArray[np.float32], bool]:
    """Read latents from `{"latent": [...]}` or `{"latents": [[...], ...]}`.

    A whole answer of `/encode` is accepted, too. Its `model` and `version` must be those given here, since latents are
    specific to a model version.

    Returns:
        The latents, (N, dim), and whether the body has a single `latent`.

    Raises:
        MalformedBody: The body is not JSON. NaN, lone surrogates and excessive nesting are rejected, too.
        InvalidLatent: The latents have the wrong length or type, or belong to another model version.
        TooManyImages: There are more than `max_latents`.
    """
    latents, is_single, made_by = _open_document(parse_json(data))
    if (made_by.get("model", model), made_by.get("version", version)) != (model, version):
        raise InvalidLatent(
            f"the latents are of model {shown(made_by.get('model', model))}, version "
            f"{shown(made_by.get('version', version))}, but {model!r}, version {version}, was requested; name theirs "
            "with ?model= and &version="
        )
    if not latents:
        raise InvalidLatent("latents is empty; send at least one")
    if len(latents) > max_latents:
        raise TooManyImages(f"the body holds {len(latents)} latents, the limit is {max_latents} (setting max_images)")
    for i, latent in enumerate(latents):
        _check_latent(latent, dim, "the latent" if is_single else f"latent {i}")
    with np.errstate(over="ignore"):
        return _finite_latents(np.array(latents, np.float64).astype(np.float32)), is_single


def _open_document(document: Any) -> tuple[list[Any], bool, dict[Any, Any]]:  # noqa: ANN401  JSON
    """Return the latents of a document, whether it is a single one, and the other members."""
    match document:
        case {"latent": list() as latent, **others} if others.keys() <= _ENCODE_HEAD:
            return [latent], True, others
        case {"latents": list() as latents, **others} if others.keys() <= _ENCODE_HEAD:
            return latents, False, others
    found = f"an object with {shown(list(document))}" if isinstance(document, dict) else shown(document)
    raise InvalidLatent(f'the body is {found}; send {{"latent": [...]}} or {{"latents": [[...], ...]}}')


def _check_latent(latent: object, dim: int, where: str) -> None:
    if not isinstance(latent, list):
        raise InvalidLatent(f"{where} is {shown(latent)}; it must be a list of {dim} numbers")
    if len(latent) != dim:
        raise InvalidLatent(f"{where} has {len(latent)} numbers, the model has {dim}")
    for value in latent:
        if type(value) not in (int, float):  # a bool is an int to isinstance
            raise InvalidLatent(f"{where} has {shown(value)} in it, which is not a number")


def _finite_latents(z: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(z).all():
        raise InvalidLatent("the latents have NaN or infinity in them, or numbers too large for float32")
    return z
