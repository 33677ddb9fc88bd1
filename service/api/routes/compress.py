from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import HOURGLASS, problems, success
from service.api.openapi_bodies import IMAGE_BODY
from service.api.pipeline import read_image_files
from service.api.responses import single_response
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import CompressQuery
from service.api.service import reserve, service_of
from service.http.sent import header
from service.tasks.compress import compressor
from service.tasks.cost import cost_of_pictures

router = APIRouter(tags=["images"], route_class=JobRoute)


@router.post(
    "/compress",
    operation_id="compress",
    summary="Compress images",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success("One file for all images.", HOURGLASS, headers=IMAGE_HEADERS),
        **problems(*IMAGE_ERRORS),
    },
)
async def compress(request: Request, query: Annotated[CompressQuery, Query()]) -> Response:
    """Compress images, with loss, into a file for `/decompress`.

    Models for photographs keep size and colour; models of one size resize. All images of a request, files of a form or
    rows of an array, go into one file and share its header. `rate` trades bytes for quality. A file needs the model
    version that made it.
    """
    service = service_of(request)
    model = await service.registry.find("compress", query.model, query.version)
    files = await read_image_files(request, image=query.image)
    accept = header(request.scope, b"accept")
    work = compressor(files, model.manifest, service.limits, accept, rate=query.rate)
    batcher = model.batcher_by_task["compress"]
    await reserve(request, cost_of_pictures(files, model.manifest, batcher, service.limits))
    return single_response(await work.run(batcher), model.label)
