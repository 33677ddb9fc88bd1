"""Schemas of feedback."""

from typing import Annotated

from pydantic import BaseModel, Field

from service.api.schemas import StrictQuery
from service.collections.store.feedback import Opinion


class FeedbackQuery(StrictQuery):
    """The verdict of a user on an image."""

    verdict: Annotated[Opinion, Field(description="Whether the image shows a good part or a defect")]
    version: Annotated[
        int | None, Field(ge=1, lt=10**9, description="Version whose verdict the user saw; default: the newest")
    ] = None
    who: Annotated[str | None, Field(min_length=1, max_length=100, description="Name of the user")] = None


class FeedbackListQuery(StrictQuery):
    """Choice of a page of images."""

    after: Annotated[
        str,
        Field(
            pattern=r"^([0-9T:-]{19},[0-9a-f]{64})?$",
            description="Value of `after` of the previous page",
        ),
    ] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Largest number of images on this page")] = 100


class KeptPicture(BaseModel):
    """An image of the feedback."""

    id: Annotated[str, Field(description="SHA-256 of the file")]
    verdict: Opinion
    version: int
    who: str | None
    created: str
    has_mask: bool


class FeedbackAnswer(BaseModel):
    """The feedback of a model."""

    model: str
    is_kept: Annotated[bool, Field(description="Whether feedback is accepted: the setting max_feedback_bytes is not 0")]
    bytes: Annotated[int, Field(description="Bytes of the images of all models")]
    max_bytes: int
    fine: Annotated[int, Field(description="Number of images of the model that are fine")]
    defect: Annotated[int, Field(description="Number of images of the model with a defect")]
    pictures: Annotated[list[KeptPicture], Field(description="One page, newest first")]
    after: Annotated[str | None, Field(description="Value of `after` for the next page; null on the last one")]
