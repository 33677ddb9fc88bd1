from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import HOURGLASS_BODY
from service.api.responses import single_response
from service.api.route import JobRoute
from service.api.routes.common import MODEL_ERRORS
from service.api.schemas import DecompressQuery
from service.api.service import reserve, service_of
from service.contract.container import read_container
from service.errors import BrokenContainer, OtherDecoder, UnsupportedMediaType, shown
from service.http.admission import slot_of
from service.http.body import file_cap, media_type, read_body
from service.http.sent import header
from service.media_types import HOURGLASS_TYPE
from service.tasks.compress import decompressor
from service.tasks.compressed_file import cost_of_file

router = APIRouter(tags=["images"], route_class=JobRoute)
_TYPES = {"", HOURGLASS_TYPE, "application/octet-stream", "application/x-www-form-urlencoded"}


@router.post(
    "/decompress",
    operation_id="decompress",
    summary="Decompress images",
    response_class=Response,
    openapi_extra=HOURGLASS_BODY,
    responses={
        **success(
            "The image; several give a ZIP or one array.", {**PICTURES, **NPY, **ZIP}, headers=["X-Model"]
        ),
        **problems(*MODEL_ERRORS, BrokenContainer, OtherDecoder),
    },
)  # fmt: skip
async def decompress(request: Request, query: Annotated[DecompressQuery, Query()]) -> Response:
    """Reconstruct the images of a file of `/compress` in their original sizes, with the model version that it names.

    `Accept` chooses PNG (default), JPEG, WebP, TIFF or NPY: float32, (C, H, W), or (N, C, H, W) for several images of
    one size.
    """
    service = service_of(request)
    if (kind := media_type(request)) not in _TYPES:
        raise UnsupportedMediaType(f"Content-Type is {shown(kind)}; send {HOURGLASS_TYPE}")
    body = await read_body(request, file_cap(service.settings))
    file = read_container(body, max_images=service.limits.max_images)
    slot_of(request).start(request, file.count)
    model = await service.registry.find("decompress", file.model, file.version)
    accept = header(request.scope, b"accept")
    work = decompressor(file, model.manifest, service.limits, accept, quality=query.quality)
    batcher = model.batcher_by_task["decompress"]
    await reserve(request, cost_of_file(file, model.manifest, batcher, service.limits))
    return single_response(await work.run(batcher), model.label)
