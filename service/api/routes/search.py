import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.collection_schemas import (
    ClassifiesAnswer,
    ClassifyAnswer,
    ClassifyQuery,
    CollectionName,
    SearchAnswer,
    SearchesAnswer,
    SearchQuery,
)
from service.api.openapi import problems, success
from service.api.openapi_bodies import VECTOR_BODY
from service.api.responses import json_response, several_response
from service.api.route import AdmittedRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import Problem
from service.api.service import Service, reserve, service_of
from service.api.vectors import read_vectors, refuse_other_model
from service.collections.embedding import Vectors
from service.collections.names import MAX_METADATA_BYTES
from service.collections.store import Collection, Neighbour, Vector
from service.collections.voting import vote
from service.errors import (
    CollectionNotFound,
    InvalidLatent,
    ModelConflict,
    NoLabels,
    RequestError,
    StoreUnavailable,
    TooManyImages,
)
from service.http.encoding import as_json
from service.http.negotiation import negotiate
from service.http.sent import header
from service.media_types import JSON_TYPE
from service.tasks.answer import Answer
from service.tasks.cost import Cost

router = APIRouter(prefix="/collections", tags=["collections"], route_class=AdmittedRoute)
_MAX_NEIGHBOURS = 4096  # each may have 8 KiB of metadata
_NEIGHBOUR_BYTES = 2 * (MAX_METADATA_BYTES + 1024)  # at most, as rows and as JSON
_SMALL_K = 20  # their JSON takes less time than going to a thread
_ERRORS = (*IMAGE_ERRORS, InvalidLatent, CollectionNotFound, ModelConflict, StoreUnavailable)

# The neighbours of one vector -> the members of its answer
Judge = Callable[[list[Neighbour]], dict[str, object]]


@router.post(
    "/{collection}/search",
    operation_id="search",
    summary="Find the nearest images of a collection",
    response_class=Response,
    openapi_extra=VECTOR_BODY,
    responses={
        **success(
            "The neighbours. Several files give a list.",
            model=SearchAnswer | SearchesAnswer | list[SearchAnswer | SearchesAnswer | Problem],
            headers=IMAGE_HEADERS,
        ),
        **problems(*_ERRORS),
    },
)
async def search(request: Request, collection: CollectionName, query: Annotated[SearchQuery, Query()]) -> Response:
    """Find the items whose latents are nearest to that of an image, or to a given latent. The search is exact."""
    return await _answer(request, collection, query, _found, is_labelled=False)


@router.post(
    "/{collection}/classify",
    operation_id="classify",
    summary="Classify an image by its neighbours",
    response_class=Response,
    openapi_extra=VECTOR_BODY,
    responses={
        **success(
            "The label. Several files give a list.",
            model=ClassifyAnswer | ClassifiesAnswer | list[ClassifyAnswer | ClassifiesAnswer | Problem],
            headers=IMAGE_HEADERS,
        ),
        **problems(*_ERRORS, NoLabels),
    },
)
async def classify(request: Request, collection: CollectionName, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Return the label that the nearest labelled items vote for; a vote weighs 1 / distance.

    `confidence` is a label's share of the vote.
    """

    def judge(neighbours: list[Neighbour]) -> dict[str, object]:
        votes = vote(neighbours)
        if not votes:
            raise NoLabels(f"no item of collection {collection!r} has a label; store some with ?label=")
        labels = [{"label": label, "confidence": confidence} for label, confidence in votes]
        return {**labels[0], "labels": labels, **_found(neighbours)}

    return await _answer(request, collection, query, judge, is_labelled=True)


def _found(neighbours: list[Neighbour]) -> dict[str, object]:
    return {"neighbours": [vars(found) | {"metadata": as_json(found.metadata)} for found in neighbours]}


async def _answer(
    request: Request, name: str, query: SearchQuery | ClassifyQuery, judge: Judge, *, is_labelled: bool
) -> Response:
    service = service_of(request)
    negotiate(header(request.scope, b"accept"), [JSON_TYPE])
    found = await service.store.run(lambda store: store.collection(name))
    refuse_other_model(service.registry, found, query)
    files, names = await read_vectors(request, service, found.encoder, found)
    vectors = sum(len(file.z) for file in files if not isinstance(file, RequestError))
    if vectors * query.k > _MAX_NEIGHBOURS:
        raise TooManyImages(
            f"{vectors} vectors with k={query.k} are {vectors * query.k} neighbours, the limit is {_MAX_NEIGHBOURS} in "
            "one answer; send fewer at once, or ask for fewer"
        )
    await reserve(request, Cost(vectors * query.k * _NEIGHBOUR_BYTES))
    results = [await _judged(service, found, file, query.k, judge, is_labelled=is_labelled) for file in files]
    if len(results) > 1:
        for result in results:
            if isinstance(result, RequestError):
                service.metrics.meters.failed(result.code)
        return await asyncio.to_thread(several_response, results, JSON_TYPE, found.encoder.label, names)
    (result,) = results
    if isinstance(result, RequestError):
        raise result
    headers = {"X-Model": found.encoder.label} | ({"X-Resize": result.resize} if result.resize else {})
    if query.k <= _SMALL_K:
        return json_response(result.value, headers=headers)
    async with service.list_lock:
        return await asyncio.to_thread(json_response, result.value, headers=headers)


async def _judged(
    service: Service, found: Collection, file: Vectors | RequestError, k: int, judge: Judge, *, is_labelled: bool
) -> Answer | RequestError:
    """Return the answer or the problem of one file.

    Its vectors are searched one after another, so that other requests run in between.
    """
    if isinstance(file, RequestError):
        return file

    async def near(vector: Vector) -> list[Neighbour]:
        return await service.store.run(lambda store: store.search(found.name, vector, k=k, is_labelled=is_labelled))

    head: dict[str, object] = {
        "collection": found.name,
        "model": found.encoder.model,
        "version": found.encoder.version,
        **({} if file.resize is None else {"resize": file.resize}),
    }
    try:
        parts = [judge(await near(vector)) for vector in file.z]
    except NoLabels as error:
        return error
    value = {**head, **parts[0]} if file.is_single else {**head, "results": parts}
    return Answer(JSON_TYPE, b"", value, file.resize)
