"""Schemas of collections: names and ids, queries, metadata and JSON answers."""

from typing import Annotated

import orjson
from fastapi import Header, Path
from pydantic import AfterValidator, BaseModel, Field, JsonValue

from service.api.schemas import ModelQuery, Resize, Source, StrictQuery
from service.collections.names import (
    ID_PATTERN,
    MAX_ID,
    MAX_LABEL,
    NAME_PATTERN,
    check_label,
    check_metadata,
    is_item_id,
)
from service.collections.store import MAX_NEIGHBOURS
from service.errors import InvalidMetadata, shown


def _check_id(text: str) -> str:
    if not is_item_id(text):
        raise ValueError(
            f"an id has up to {MAX_ID} letters, digits and _ .,+=@()~- in up to 8 parts with / between them, each of "
            "which begins with a letter, a digit or _"
        )
    return text


CollectionName = Annotated[str, Path(pattern=NAME_PATTERN, description="Name of the collection")]
# Checked by Python's regular expressions: pydantic's differ in their classes of letters.
ItemId = Annotated[
    str,
    AfterValidator(_check_id),
    Path(
        description="Id of the item, such as seven/0001.png",
        json_schema_extra={"pattern": ID_PATTERN, "maxLength": MAX_ID},
    ),
]
MetadataHeader = Annotated[
    str | None,
    Header(alias="X-Metadata", description='A JSON object of up to 8 KiB, stored with the item: {"lot": 12}'),
]


class PutQuery(ModelQuery):
    """Label of an item, and choice of the model for a new collection."""

    label: Annotated[
        str | None,
        AfterValidator(check_label),
        Field(
            description="Label of the image; it votes in classify",
            json_schema_extra={"minLength": 1, "maxLength": MAX_LABEL},
        ),
    ] = None


class SearchQuery(ModelQuery):
    """Number of neighbours. A model, if given, must be that of the collection."""

    k: Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS, description="Number of neighbours")] = 10


class ClassifyQuery(ModelQuery):
    """Number of neighbours that vote. A model, if given, must be that of the collection."""

    k: Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS, description="Number of neighbours that vote")] = 5


class ItemsQuery(StrictQuery):
    """Choice of a page of items."""

    after: Annotated[
        str, Field(max_length=MAX_ID, pattern=r"^[^\x00]*$", description="Last id of the previous page")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Largest number of items on this page")] = 100


class CollectionsQuery(StrictQuery):
    """Choice of a page of collections."""

    after: Annotated[
        str, Field(max_length=64, pattern=r"^[^\x00]*$", description="Name of the last collection of the previous page")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Largest number of collections on this page")] = 1000


class CollectionAnswer(BaseModel):
    """One collection."""

    collection: str
    model: str
    version: int
    dim: Annotated[int, Field(description="Length of a vector")]
    items: Annotated[int, Field(description="Number of items")]
    created: Annotated[str, Field(description="Time of creation, UTC, ISO 8601")]


class EntryAnswer(BaseModel):
    """An item without its vector."""

    id: str
    label: str | None
    metadata: dict[str, JsonValue] | None
    updated: Annotated[str, Field(description="Time of the last change, UTC, ISO 8601")]


class EntriesAnswer(BaseModel):
    """One page of a collection's items."""

    collection: str
    items: list[EntryAnswer]
    after: Annotated[str | None, Field(description="Value of `after` for the next page; null on the last one")]


class ItemAnswer(EntryAnswer):
    """An item with its vector."""

    collection: str
    model: str
    version: int
    latent: list[float]


class PutAnswer(BaseModel):
    """The stored item."""

    collection: str
    id: str
    model: str
    version: int
    label: str | None
    metadata: dict[str, JsonValue] | None
    resize: Resize = None


class NeighbourAnswer(BaseModel):
    """An item of the collection near the query."""

    id: str
    distance: Annotated[float, Field(description="Euclidean distance between the latents")]
    label: str | None
    metadata: dict[str, JsonValue] | None


class Neighbours(BaseModel):
    """The neighbours of one image."""

    neighbours: Annotated[list[NeighbourAnswer], Field(description="Nearest first")]


class LabelAnswer(BaseModel):
    """A label with its share of the vote."""

    label: str
    confidence: Annotated[float, Field(description="Share of the vote, in (0, 1]; the shares sum to 1")]


class Classified(Neighbours):
    """The label of one image, by the vote of its neighbours."""

    label: str
    confidence: float
    labels: Annotated[list[LabelAnswer], Field(description="Sorted by confidence, highest first")]


class _Head(BaseModel):
    collection: str
    model: str
    version: int
    resize: Resize = None
    source: Source = None


class SearchAnswer(_Head, Neighbours):
    """The neighbours of one image, with the collection and its model."""


class SearchesAnswer(_Head):
    """The neighbours of each image of an array."""

    results: list[Neighbours]


class ClassifyAnswer(_Head, Classified):
    """The label of one image, with the collection and its model."""


class ClassifiesAnswer(_Head):
    """The label of each image of an array."""

    results: list[Classified]


def read_metadata(header: str | None) -> dict[str, JsonValue] | None:
    """Read the object in an `X-Metadata` header: JSON in UTF-8, or in ASCII with escapes.

    Raises:
        InvalidMetadata: The header is not a JSON object, or is too large or too deep.
    """
    if header is None:
        return None
    content = header.encode("latin-1")  # Starlette decodes headers as Latin-1
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidMetadata(
            f'X-Metadata is {shown(header)}, which is not JSON; send an object, such as {{"lot": 12}}'
        ) from error
    return check_metadata(found, len(content), "X-Metadata")
