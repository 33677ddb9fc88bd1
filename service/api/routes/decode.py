from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import LATENT_BODY
from service.api.responses import single_response
from service.api.route import JobRoute
from service.api.routes.common import MODEL_ERRORS
from service.api.schemas import ModelQuery
from service.api.service import reserve, service_of
from service.errors import InvalidLatent, UnsupportedMediaType, shown
from service.http.admission import slot_of
from service.http.body import media_type, read_latents
from service.http.sent import header
from service.media_types import JSON_TYPE, NPY_TYPE
from service.tasks.cost import cost_of_drawing
from service.tasks.decode import Decode
from service.tasks.latents import count_latents

router = APIRouter(tags=["images"], route_class=JobRoute)
_TYPES = {"", JSON_TYPE, NPY_TYPE, "application/octet-stream", "application/x-www-form-urlencoded"}


@router.post(
    "/decode",
    operation_id="decode",
    summary="Decode latents",
    response_class=Response,
    openapi_extra=LATENT_BODY,
    responses={
        **success(
            "The image; several latents give a ZIP or one array.", {**PICTURES, **NPY, **ZIP}, headers=["X-Model"]
        ),
        **problems(*MODEL_ERRORS, InvalidLatent),
    },
)
async def decode(request: Request, query: Annotated[ModelQuery, Query()]) -> Response:
    """Reconstruct images from latents.

    `Accept` chooses PNG (default), JPEG, WebP, TIFF or NPY: float32, (C, H, W), or (N, C, H, W) for several latents.
    """
    service = service_of(request)
    model = await service.registry.find("decode", query.model, query.version)
    if (kind := media_type(request)) not in _TYPES:
        raise UnsupportedMediaType(f"Content-Type is {shown(kind)}; send {JSON_TYPE} or {NPY_TYPE}")
    body = await read_latents(request, service.settings)
    slot_of(request).start(request, count_latents(body, at_most=service.limits.max_images))
    work = Decode(body, model.manifest, service.limits, header(request.scope, b"accept"))
    batcher = model.batcher_by_task["decode"]
    await reserve(request, cost_of_drawing(slot_of(request).images, model.manifest, batcher))
    return single_response(await work.run(batcher), model.label)
