from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import IMAGE_BODY
from service.api.pipeline import answer_files
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.routes.denoise import SEVERAL
from service.api.schemas import EnhanceQuery
from service.tasks.restore import Options, Restoration

router = APIRouter(tags=["images"], route_class=JobRoute)


@router.post(
    "/enhance",
    operation_id="enhance",
    summary="Enlarge an image",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success(
            "The image, enlarged by the model's scale: same channels, depth and transparency. Several files "
            "come as a ZIP.",
            {**PICTURES, **NPY, **ZIP},
            headers=IMAGE_HEADERS,
        ),
        **problems(*IMAGE_ERRORS),
    },
)
async def enhance(request: Request, query: Annotated[EnhanceQuery, Query()]) -> Response:
    """Enlarge an image by the scale of its model, with learned detail.

    The answer has the format of the file, or `Accept` chooses PNG, JPEG, WebP, TIFF or NPY. The setting `max_pixels`
    limits the answer, which is larger than the input.
    """
    options = Options(quality=query.quality, metadata=query.metadata, thorough=query.thorough)

    make_work = partial(Restoration, options=options, is_enhance=True)
    return await answer_files(request, query, "enhance", make_work, several=SEVERAL)
