from itertools import accumulate
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.collection_schemas import (
    CollectionAnswer,
    CollectionName,
    CollectionsQuery,
    EntriesAnswer,
    ItemAnswer,
    ItemId,
    ItemsQuery,
    MetadataHeader,
    PutAnswer,
    PutQuery,
    read_metadata,
)
from service.api.openapi import NO_CONTENT, problems, success
from service.api.openapi_bodies import VECTOR_BODY
from service.api.responses import json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS, STORE_ERRORS
from service.api.service import Service, reserve, service_of
from service.api.vectors import read_vectors, refuse_other_model
from service.collections.embedding import Vectors, encoder_of
from service.collections.names import MAX_METADATA_BYTES
from service.collections.store import Bounds, Collection, Entry, Item, Store
from service.errors import (
    CollectionFull,
    CollectionNotFound,
    InvalidArray,
    InvalidLatent,
    InvalidMetadata,
    ItemNotFound,
    MalformedBody,
    ModelConflict,
    RequestError,
    StoreUnavailable,
)
from service.http.encoding import as_json, write_json
from service.media_types import JSON_TYPE
from service.models.model import Model
from service.tasks.cost import Cost

router = APIRouter(prefix="/collections", tags=["collections"], route_class=AdmittedRoute)
_COLLECTION_ERRORS = (*STORE_ERRORS, CollectionNotFound)
_PAGE_BYTES = 2**20  # of metadata: Python makes a page in one go, and nothing else meanwhile
_ITEM_BYTES = 1024  # of a page, at most, besides its metadata
_ITEM_SECONDS = 10e-6  # measured with 8 KB of metadata each


@router.get(
    "",
    operation_id="list_collections",
    summary="List the collections",
    response_class=Response,
    responses={**success("One page, by name.", model=list[CollectionAnswer]), **problems(*STORE_ERRORS)},
)
async def list_collections(request: Request, query: Annotated[CollectionsQuery, Query()]) -> Response:
    """List collections with the model that makes their vectors. A page with fewer than `limit` is the last one."""
    service = service_of(request)
    found = await service.store.run(lambda store: store.collections(after=query.after, limit=query.limit))
    return json_response([_describe(collection) for collection in found])


@router.get(
    "/{collection}",
    operation_id="get_collection",
    summary="Get a collection",
    response_class=Response,
    responses={
        **success("The collection.", model=CollectionAnswer),
        **problems(*_COLLECTION_ERRORS),
    },
)
async def get_collection(request: Request, collection: CollectionName) -> Response:
    """Return the number of items of a collection and the model version of its vectors."""
    service = service_of(request)
    return json_response(_describe(await service.store.run(lambda store: store.collection(collection))))


@router.delete(
    "/{collection}",
    operation_id="delete_collection",
    summary="Delete a collection",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*_COLLECTION_ERRORS)},
)
async def delete_collection(request: Request, collection: CollectionName) -> Response:
    """Delete a collection with all its items. A later item creates a new one."""
    service = service_of(request)
    await service.store.write(lambda store: store.drop(collection))
    return Response(status_code=204)


@router.get(
    "/{collection}/items",
    operation_id="list_items",
    summary="List the items of a collection",
    response_class=Response,
    responses={**success("One page, by id.", model=EntriesAnswer), **problems(*_COLLECTION_ERRORS)},
)
async def list_items(request: Request, collection: CollectionName, query: Annotated[ItemsQuery, Query()]) -> Response:
    """List items without their vectors, in the order of their ids.

    A page ends before its limit if the metadata of its items takes more than 1 MiB.
    """
    service = service_of(request)
    size = query.limit * _ITEM_BYTES + min(query.limit * MAX_METADATA_BYTES, _PAGE_BYTES)
    await reserve(request, Cost(2 * size, query.limit * _ITEM_SECONDS))  # as rows and as JSON

    def read(store: Store) -> bytes:
        found = store.entries(collection, after=query.after, limit=query.limit + 1, max_bytes=_PAGE_BYTES)
        page = _page(found, query.limit)
        items = [vars(entry) | {"metadata": as_json(entry.metadata)} for entry in page]
        after = page[-1].id if len(page) < len(found) else None
        return write_json({"collection": collection, "items": items, "after": after})

    async with service.list_lock:
        return Response(await service.store.run(read), media_type=JSON_TYPE)


@router.put(
    "/{collection}/items/{id:path}",
    operation_id="put_item",
    summary="Store an image in a collection",
    response_class=Response,
    openapi_extra=VECTOR_BODY,
    responses={
        **success("The item was replaced.", model=PutAnswer, headers=IMAGE_HEADERS),
        201: success("The item is new.", model=PutAnswer, headers=IMAGE_HEADERS)[200],
        **problems(*IMAGE_ERRORS, InvalidLatent, InvalidMetadata, ModelConflict, CollectionFull, StoreUnavailable),
    },
)
async def put_item(
    request: Request,
    collection: CollectionName,
    id: ItemId,  # noqa: A002  its name on the wire
    query: Annotated[PutQuery, Query()],
    x_metadata: MetadataHeader = None,
) -> Response:
    """Store the latent of an image, with a label and metadata, under an id of your choice. The image is not stored.

    The first item creates the collection and fixes its model version. When the answer arrives, the item is on disk and
    every worker finds it.
    """
    service = service_of(request)
    metadata = read_metadata(x_metadata)
    source = await _source(service, collection, query)
    encoder = encoder_of(source) if isinstance(source, Model) else source.encoder
    results, _ = await read_vectors(request, service, encoder, source)
    vectors = _single(results)
    item = Item(id, vectors.z[0], query.label, metadata)
    bounds = Bounds(
        service.settings.max_collections, service.settings.max_items, service.settings.max_collections_bytes
    )
    new = await service.store.write(lambda store: store.put(collection, encoder, [item], bounds))
    answer = PutAnswer(
        collection=collection,
        id=id,
        model=encoder.model,
        version=encoder.version,
        label=item.label,
        metadata=item.metadata,
        resize=vectors.resize,
    )
    headers = {"X-Model": encoder.label} | ({"X-Resize": vectors.resize} if vectors.resize else {})
    document = answer.model_dump(exclude=None if vectors.resize else {"resize"})
    return json_response(document, status=201 if new else 200, headers=headers)


@router.get(
    "/{collection}/items/{id:path}",
    operation_id="get_item",
    summary="Get an item of a collection",
    response_class=Response,
    responses={
        **success("The item with its latent.", model=ItemAnswer, headers=["X-Model"]),
        **problems(*_COLLECTION_ERRORS, ItemNotFound),
    },
)
async def get_item(request: Request, collection: CollectionName, id: ItemId) -> Response:  # noqa: A002  as above
    """Return an item's latent, label and metadata. The latent can be posted to /decode."""
    service = service_of(request)
    encoder = (await service.store.run(lambda store: store.collection(collection))).encoder
    item, updated = await service.store.run(lambda store: store.get(collection, id))
    document = {
        "collection": collection,
        "id": id,
        "model": encoder.model,
        "version": encoder.version,
        "label": item.label,
        "metadata": item.metadata,
        "updated": updated,
        "latent": item.vector,
    }
    return json_response(document, headers={"X-Model": encoder.label})


@router.delete(
    "/{collection}/items/{id:path}",
    operation_id="delete_item",
    summary="Delete an item",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*_COLLECTION_ERRORS, ItemNotFound)},
)
async def delete_item(request: Request, collection: CollectionName, id: ItemId) -> Response:  # noqa: A002  as above
    """Delete one item. An empty collection remains, with its model version."""
    service = service_of(request)
    await service.store.write(lambda store: store.remove(collection, id))
    return Response(status_code=204)


def _page(found: list[Entry], limit: int) -> list[Entry]:
    """Return the first items that fit a page."""
    ends = accumulate(len(entry.metadata or "") for entry in found[:limit])
    return found[: sum(end <= _PAGE_BYTES for end in ends)]


async def _source(service: Service, name: str, query: PutQuery) -> Collection | Model:
    """Return the collection, or the model for the vectors of a new one."""
    try:
        found = await service.store.run(lambda store: store.collection(name))
    except CollectionNotFound:
        return await service.registry.find("encode", query.model, query.version)
    refuse_other_model(service.registry, found, query)
    return found


def _single(results: list[Vectors | RequestError]) -> Vectors:
    if len(results) != 1:
        raise MalformedBody(f"the form has {len(results)} files; an item is one image")
    (vectors,) = results
    if isinstance(vectors, RequestError):
        raise vectors
    if len(vectors.z) != 1:
        raise InvalidArray(f"the body holds {len(vectors.z)} images or latents; an item is one")
    return vectors


def _describe(found: Collection) -> dict[str, object]:
    return {
        "collection": found.name,
        "model": found.encoder.model,
        "version": found.encoder.version,
        "dim": found.encoder.dim,
        "items": found.items,
        "created": found.created,
    }
