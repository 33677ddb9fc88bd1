"""What is said with a picture of the feedback, and what is answered, as types."""

from typing import Annotated

from pydantic import BaseModel, Field

from service.api.schemas import StrictQuery
from service.collections.store.feedback import Opinion


class FeedbackQuery(StrictQuery):
    """The opinion on a picture."""

    verdict: Annotated[Opinion, Field(description="What the picture shows: a part that is fine, or a defect")]
    version: Annotated[
        int | None, Field(ge=1, lt=10**9, description="Version whose verdict was shown; default: the newest")
    ] = None
    who: Annotated[str | None, Field(min_length=1, max_length=100, description="Name of the person")] = None


class KeptPicture(BaseModel):
    """A picture that is kept."""

    id: Annotated[str, Field(description="SHA-256 of the file")]
    verdict: Opinion
    version: int
    who: str | None
    created: str
    has_mask: bool


class FeedbackAnswer(BaseModel):
    """The pictures on a model."""

    model: str
    is_kept: Annotated[bool, Field(description="Whether pictures are accepted: max_feedback_bytes is not 0")]
    bytes: Annotated[int, Field(description="Bytes of the pictures of all models")]
    max_bytes: int
    pictures: list[KeptPicture]
