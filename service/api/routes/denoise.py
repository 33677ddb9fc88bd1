from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import IMAGE_BODY
from service.api.pipeline import answer_files
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, RESTORED_HEADERS
from service.api.schemas import DenoiseQuery
from service.images.formats import PICTURE_TYPES
from service.media_types import NPY_TYPE, ZIP_TYPE
from service.tasks.denoise import denoiser
from service.tasks.restore import Options

router = APIRouter(tags=["images"], route_class=JobRoute)
SEVERAL: dict[str, str | None] = {ZIP_TYPE: None, **{kind: kind for kind in PICTURE_TYPES}, NPY_TYPE: NPY_TYPE}


@router.post(
    "/denoise",
    operation_id="denoise",
    summary="Denoise an image",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success(
            "The clean image: same size, channels, depth and transparency. Several files come as a ZIP.",
            {**PICTURES, **NPY, **ZIP},
            headers=RESTORED_HEADERS,
        ),
        **problems(*IMAGE_ERRORS),
    },
)
async def denoise(request: Request, query: Annotated[DenoiseQuery, Query()]) -> Response:
    """Remove the noise that the model was trained on. Without `model`, the default for grey or colour images answers.

    Models for photographs take any size and noise level. `sigma` is the standard deviation of the noise in 0-255 units,
    estimated by default; `X-Sigma` reports the level used. `strength` blends the result with the input.
    `thorough` takes eight times as long and reduces the error slightly.

    The answer has the format of the file, or `Accept` chooses PNG, JPEG, WebP, TIFF or NPY. A 16-bit image stays
    16-bit, so it cannot become JPEG or WebP; an image with transparency cannot become JPEG. An NPY array is answered
    with an NPY array by default.
    """
    options = Options(
        sigma=query.sigma,
        strength=query.strength,
        thorough=query.thorough,
        quality=query.quality,
        metadata=query.metadata,
    )

    make_work = partial(denoiser, options=options)
    return await answer_files(request, query, "denoise", make_work, several=SEVERAL)
