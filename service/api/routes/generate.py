import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import GENERATE_BODY
from service.api.responses import single_response
from service.api.route import JobRoute
from service.api.routes.common import MODEL_ERRORS
from service.api.schemas import GenerateQuery
from service.api.service import reserve, service_of
from service.errors import InvalidParameter, UnsupportedMediaType, shown
from service.http.admission import slot_of
from service.http.body import ORDER_CAP, complaint, media_type, parse_json, read_plain_body
from service.http.sent import header
from service.media_types import JSON_TYPE
from service.tasks.cost import cost_of_drawing
from service.tasks.generate import Draw, GenerateBody

router = APIRouter(tags=["images"], route_class=JobRoute)
_TYPES = {"", JSON_TYPE, "application/octet-stream", "application/x-www-form-urlencoded"}
_NEW_SEEDS = 2**32  # short enough to be typed


@router.post(
    "/generate",
    operation_id="generate",
    summary="Generate images",
    response_class=Response,
    openapi_extra=GENERATE_BODY,
    responses={
        **success(
            "The image; several come as a ZIP, as one array, or on one sheet.",
            {**PICTURES, **NPY, **ZIP},
            headers=["X-Model", "X-Seed"],
        ),
        **problems(*MODEL_ERRORS),
    },
)
async def generate(request: Request, query: Annotated[GenerateQuery, Query()]) -> Response:
    """Generate images like those that the model was trained on.

    `Accept` chooses PNG (default), JPEG, WebP, TIFF or NPY: float32, (C, H, W), or (N, C, H, W) for several. `X-Seed`
    returns the seed: with the same model version, temperature and label it gives the same bytes, and image i does not
    depend on `count`.
    """
    service = service_of(request)
    model = await service.registry.find("generate", query.model, query.version)
    if (kind := media_type(request)) not in _TYPES:
        raise UnsupportedMediaType(f"Content-Type is {shown(kind)}; send {JSON_TYPE}, or no body at all")
    body = _read(await read_plain_body(request, ORDER_CAP))
    slot_of(request).start(request, min(body.count, service.limits.max_images))
    seed = secrets.randbelow(_NEW_SEEDS) if body.seed is None else body.seed
    work = Draw(body, seed, model.manifest, service.limits, header(request.scope, b"accept"), query.view)
    batcher = model.batcher_by_task["generate"]
    await reserve(request, cost_of_drawing(slot_of(request).images, model.manifest, batcher))
    response = single_response(await work.run(batcher), model.label)
    response.headers["X-Seed"] = str(seed)
    return response


def _read(body: bytes) -> GenerateBody:
    """Parse the body; an empty one requests one image."""
    try:
        return GenerateBody.model_validate(parse_json(body or b"{}"))
    except ValidationError as error:
        members = ", ".join(GenerateBody.model_fields)
        raise InvalidParameter(f"{complaint(error)}; the body is an object of {members}") from error
