"""Vectors of a request: images through the encoder of a collection, or latents as they are."""

import asyncio

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from service.api.pipeline import read_image_files
from service.api.schemas import ModelQuery
from service.api.service import Service, reserve
from service.collections.embedding import Embed, Vectors, encoder_of
from service.collections.store import Collection, Encoder
from service.collections.store.refusals import conflict, encoder_gone
from service.errors import InvalidLatent, ModelConflict, ModelNotFound, RequestError, VersionNotFound, shown
from service.http.admission import slot_of
from service.http.body import json_cap, media_type, read_body
from service.media_types import JSON_TYPE
from service.models.model import Model
from service.models.registry import Registry
from service.tasks.cost import cost_of_pictures
from service.tasks.latents import count_latents, read_json_latents, read_npy_latents


def refuse_other_model(registry: Registry, found: Collection, query: ModelQuery) -> None:
    """Raise an error if the query names another model than that of the collection.

    Raises:
        ModelConflict: The query names another model.
        RequestError: The query names a missing alias.
    """
    encoder = found.encoder
    model, version = registry.resolve(query.model or encoder.model, query.version)
    if model != encoder.model or version not in {None, encoder.version}:
        raise conflict(found, shown(f"{model}/{version or encoder.version}")[1:-1])


async def encoder_model(service: Service, found: Collection) -> Model:
    """Return the model version that made the collection's vectors, even if a newer one is live.

    Raises:
        ModelConflict: The version is missing or was changed.
    """
    registry, encoder = service.registry, found.encoder
    try:
        model = await registry.find_version(registry.snapshot, encoder.model, encoder.version)
    except (ModelNotFound, VersionNotFound) as error:
        raise encoder_gone(found, error.detail) from error
    if "encode" not in model.manifest.tasks or encoder_of(model) != encoder:
        raise ModelConflict(encoder_gone(found, "its files are not those of then").detail)
    return model


async def read_vectors(
    request: Request, service: Service, encoder: Encoder, source: Collection | Model
) -> tuple[list[Vectors | RequestError], list[str | None]]:
    """Return the vectors of every file of a request, or of the latents in it, and what the client calls the files.

    An NPY array with one axis is a latent; with more it is an image or several. Several latents come as JSON.

    Args:
        request: Request with the body.
        service: Service that received the request.
        encoder: Required encoder of the vectors.
        source: The model that makes them, or the collection whose model is to be found if there is an image.

    Raises:
        RequestError: The request fails as a whole. Of several files, each has its own error in the answer.
    """
    limits, settings = service.limits, service.settings
    if media_type(request) == JSON_TYPE:
        body = await read_body(request, json_cap(settings))
        slot_of(request).start(request, count_latents(body, at_most=limits.max_images))
        z, is_single = await asyncio.to_thread(
            read_json_latents,
            body,
            dim=encoder.dim,
            max_latents=limits.max_images,
            model=encoder.model,
            version=encoder.version,
        )
        _check_length(z)
        return [Vectors(z, is_single)], [None]
    files = await read_image_files(request)
    results: list[Vectors | RequestError] = [
        _latent(file.data, encoder) if len(file.header.shape) == 1 else _TO_DO for file in files
    ]
    images = [i for i, result in enumerate(results) if result is _TO_DO]
    if images:
        model = source if isinstance(source, Model) else await encoder_model(service, source)
        jobs, batcher = [Embed(files[i], model.manifest, limits, None) for i in images], model.batcher_by_task["encode"]
        await reserve(request, cost_of_pictures([files[i] for i in images], model.manifest, batcher, limits))
        for i, result in zip(images, await batcher.submit(jobs), strict=True):
            results[i] = result
    return results, [file.name for file in files]


_LONGEST = 1e18  # the square of twice that is just below the largest float32
_TO_DO = Vectors(np.empty((0, 0), np.float32), is_single=True)


def _latent(file: bytes, encoder: Encoder) -> Vectors | RequestError:
    try:
        z, is_single = read_npy_latents(file, dim=encoder.dim, max_latents=1)
        _check_length(z)
    except RequestError as error:
        return error
    return Vectors(z, is_single)


def _check_length(z: NDArray[np.float32]) -> None:
    """Raise an error if distances between such vectors overflow float32, which databases calculate with.

    Raises:
        InvalidLatent: A vector is too long.
    """
    if (longest := float(np.linalg.norm(z.astype(np.float64), axis=-1).max())) > _LONGEST:
        raise InvalidLatent(f"a latent has the length {longest:.3g}, and distances overflow beyond {_LONGEST:g}")
