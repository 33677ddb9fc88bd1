from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.images import EXTENSION_BY_TYPE
from service.openapi import IMAGE_BODY, NPY, PICTURES, ZIP, problems, success
from service.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.schemas import ModelQuery
from service.serving import answer_files
from service.tasks import ZIP_TYPE, Denoise
from service.tensors import NPY_TYPE

router = APIRouter(tags=["images"])
SEVERAL: dict[str, str | None] = {ZIP_TYPE: None, **{kind: kind for kind in EXTENSION_BY_TYPE}, NPY_TYPE: NPY_TYPE}


@router.post(
    "/denoise",
    operation_id="denoise",
    summary="Clean an image",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success(
            "The clean image: same size, channels, depth and transparency. Several files come as a ZIP.",
            {**PICTURES, **NPY, **ZIP},
            headers=IMAGE_HEADERS,
        ),
        **problems(*IMAGE_ERRORS),
    },
)
async def denoise(request: Request, query: Annotated[ModelQuery, Query()]) -> Response:
    """Removes the noise a model was trained on.

    `Accept` chooses PNG (default), JPEG, WebP, TIFF or NPY. A 16-bit image stays 16-bit, so it cannot become JPEG or
    WebP; an image with transparency cannot become JPEG. An NPY array is answered with an NPY array by default.
    """
    return await answer_files(request, query, "denoise", Denoise, several=SEVERAL)
