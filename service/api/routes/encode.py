from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, problems, success
from service.api.openapi_bodies import IMAGE_BODY
from service.api.pipeline import answer_files
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import ImageQuery, LatentAnswer, LatentsAnswer, Problem
from service.media_types import JSON_TYPE, NPY_TYPE
from service.tasks.encode import Encode

router = APIRouter(tags=["images"], route_class=JobRoute)
SEVERAL: dict[str, str | None] = {JSON_TYPE: JSON_TYPE, NPY_TYPE: NPY_TYPE}


@router.post(
    "/encode",
    operation_id="encode",
    summary="Encode an image",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success(
            "The latent. Several files give a list.",
            NPY,
            model=LatentAnswer | LatentsAnswer | list[LatentAnswer | LatentsAnswer | Problem],
            headers=IMAGE_HEADERS,
        ),
        **problems(*IMAGE_ERRORS),
    },
)
async def encode(request: Request, query: Annotated[ImageQuery, Query()]) -> Response:
    """Return the latent of an image: a short vector.

    `Accept` chooses JSON (default) or NPY: float32, (D,), or (N, D) for several images.
    """
    return await answer_files(request, query, "encode", Encode, several=SEVERAL)
