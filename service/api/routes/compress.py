from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import HOURGLASS, IMAGE_BODY, problems, success
from service.api.responses import single_response
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import CompressQuery
from service.api.service import service_of
from service.http.body import file_cap, read_files
from service.images.npy import count_rows
from service.tasks.compress import Compress
from service.tasks.compress_photo import CompressPlanes

router = APIRouter(tags=["images"])


@router.post(
    "/compress",
    operation_id="compress",
    summary="Turn images into one small file",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses={
        **success("One file, however many images were sent.", HOURGLASS, headers=IMAGE_HEADERS),
        **problems(*IMAGE_ERRORS),
    },
)
async def compress(request: Request, query: Annotated[CompressQuery, Query()]) -> Response:
    """Writes what a model keeps of images: `/decompress` makes images of it that are like them, not the same.

    Models for photographs keep size and colour; models of one size resize. All images of a request, files of a form or
    rows of an array, go into one file and share its header. `rate` trades bytes for likeness. A file needs the model
    version that made it.
    """
    service = service_of(request)
    with service.admission.admit() as slot:
        model = await service.registry.find("compress", query.model, query.version)
        limits = service.limits
        files = await read_files(request, file_cap(service.settings), max_files=limits.max_images)
        slot.start(request, sum(count_rows(file, rank=4, at_most=limits.max_images) for file in files))
        batcher, accept = model.batcher_by_task["compress"], request.headers.get("accept")
        if model.manifest.input.height is None:
            planes = CompressPlanes(files, model.manifest, limits, accept, query.rate)
            return single_response(await planes.answer(batcher, service.turns), model.label)
        result = await batcher.answer(Compress(files, model.manifest, limits, accept, query.rate))
        return single_response(result, model.label)
