from collections.abc import Mapping
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import ANOMALY_BODY
from service.api.pipeline import answer_files
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import AnomaliesAnswer, AnomalyAnswer, AnomalyQuery, Problem
from service.errors import UnreachableRate
from service.images.formats import PICTURE_TYPES
from service.media_types import JSON_TYPE, NPY_TYPE, ZIP_TYPE
from service.tasks.anomaly.job import MASK_TYPES, Anomaly, View

router = APIRouter(tags=["images"], route_class=JobRoute)
_PICTURES: dict[str, str | None] = {ZIP_TYPE: "image/png", **{kind: kind for kind in PICTURE_TYPES}}
_MASKS: dict[str, str | None] = {ZIP_TYPE: "image/png", **{kind: kind for kind in MASK_TYPES}}
_ARRAY: dict[str, str | None] = {NPY_TYPE: NPY_TYPE}
SEVERAL: dict[View | None, Mapping[str, str | None]] = {
    None: {JSON_TYPE: JSON_TYPE, **_PICTURES, **_ARRAY},
    "heatmap": {**_PICTURES, **_ARRAY},
    "mask": {**_MASKS, **_ARRAY},
}


@router.post(
    "/anomaly",
    operation_id="anomaly",
    summary="Detect anomalies",
    response_class=Response,
    openapi_extra=ANOMALY_BODY,
    responses={
        **success(
            "The verdict; the heat map over the image, or the mask; the raw map. Several files give a list or a ZIP.",
            {**PICTURES, **NPY, **ZIP},
            model=AnomalyAnswer | AnomaliesAnswer | list[AnomalyAnswer | AnomaliesAnswer | Problem],
            headers=IMAGE_HEADERS,
        ),
        **problems(*IMAGE_ERRORS, UnreachableRate),
    },
)
async def anomaly(request: Request, query: Annotated[AnomalyQuery, Query()]) -> Response:
    """Return how unlike the training images an image is, and where.

    `Accept` chooses JSON (default), an image of the heat map, or the map as NPY: float32, (H, W) of the sent image.
    `view=heatmap` and `view=mask` select these pictures without a header; the mask is white in the regions, as PNG
    or TIFF of one bit, or as NPY of 0 and 1. `p_value` is the share of held-out normal images that score at least as
    high. `max_fpr` moves both thresholds, that of the score and that of the map. `review_fpr` sets a second, lower one:
    scores between the two need review. `unlike_training` lists how the image differs in kind from the training images.
    A form may have one field `ignore`, a mask for all its files: pixels under its white have no effect on the answer.
    """
    make_work = partial(Anomaly, max_fpr=query.max_fpr, review_fpr=query.review_fpr, view=query.view)
    return await answer_files(request, query, "anomaly", make_work, several=SEVERAL[query.view], beside="ignore")
