from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import ANIMATIONS, NPY, PICTURES, ZIP, problems, success
from service.api.openapi_bodies import ENDS_BODY
from service.api.responses import single_response
from service.api.route import JobRoute
from service.api.routes.common import IMAGE_ERRORS, IMAGE_HEADERS
from service.api.schemas import InterpolateQuery
from service.api.service import Service, reserve, service_of
from service.errors import InvalidLatent, MalformedBody, RequestError, UnsupportedMediaType, shown
from service.http.admission import slot_of
from service.http.body import media_type, read_files, read_latents
from service.http.sent import header
from service.images.inspect import ImageFile
from service.media_types import FORM_TYPE, JSON_TYPE, NPY_TYPE
from service.models.model import Model
from service.tasks.cost import cost_of_drawing, cost_of_pictures
from service.tasks.encode import Encode
from service.tasks.interpolate import Interpolate, Vector

router = APIRouter(tags=["images"], route_class=JobRoute)
_LATENT_TYPES = {"", JSON_TYPE, NPY_TYPE, "application/octet-stream", "application/x-www-form-urlencoded"}


@router.post(
    "/interpolate",
    operation_id="interpolate",
    summary="Interpolate between two images",
    response_class=Response,
    openapi_extra=ENDS_BODY,
    responses={
        **success(
            "A strip of images; or each in a ZIP or array; or an animation.",
            {**PICTURES, **NPY, **ZIP, **ANIMATIONS},
            headers=IMAGE_HEADERS,
        ),
        **problems(*IMAGE_ERRORS, InvalidLatent),
    },
)
async def interpolate(request: Request, query: Annotated[InterpolateQuery, Query()]) -> Response:
    """Decode the latents between those of two images, or between two latents.

    `view` chooses a strip (PNG, JPEG, WebP, TIFF), frames (ZIP, or NPY: float32, (steps, C, H, W)) or an animation
    (WebP, GIF). Without it `Accept` chooses, and the default is a strip as PNG.
    """
    service = service_of(request)
    is_form = media_type(request) == FORM_TYPE
    model = await service.registry.find("encode" if is_form else "decode", query.model, query.version)
    if is_form:  # the same model must draw what it has encoded
        await service.registry.find("decode", model.manifest.name, model.manifest.version)
    bodies = await (_read_images(request, service) if is_form else _read_latents(request, service))
    slot_of(request).start(request, min(query.steps, service.limits.max_images))
    ends, resize = await _encode(request, bodies, model, service) if is_form else (bodies[0], None)
    accept = header(request.scope, b"accept")
    work = Interpolate(ends, query.steps, query.path, model.manifest, service.limits, accept, query.view)
    batcher = model.batcher_by_task["decode"]
    await reserve(request, cost_of_drawing(slot_of(request).images, model.manifest, batcher))
    response = single_response(await work.run(batcher), model.label)
    if resize:
        response.headers["X-Resize"] = resize
    return response


async def _read_images(request: Request, service: Service) -> list[bytes]:
    files = await read_files(request, service.settings, max_files=service.limits.max_images)
    return [file.content for file in files]


async def _read_latents(request: Request, service: Service) -> list[bytes]:
    if (kind := media_type(request)) not in _LATENT_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type is {shown(kind)}; send two images as the fields 'file' of {FORM_TYPE}, or two latents as "
            f"{JSON_TYPE} or {NPY_TYPE}"
        )
    return [await read_latents(request, service.settings)]


async def _encode(request: Request, files: Sequence[bytes], model: Model, service: Service) -> tuple[Vector, str]:
    """Encode two images. Return their latents, (2, D), and the resizing applied to each."""
    if len(files) != 2:
        raise MalformedBody(f"the form has {len(files)} images; send exactly two")
    images, batcher = [ImageFile.of(file) for file in files], model.batcher_by_task["encode"]
    await reserve(request, cost_of_pictures(images, model.manifest, batcher, service.limits))
    jobs = [Encode(image, model.manifest, service.limits, NPY_TYPE) for image in images]
    ends, resized = [], []
    for result in await batcher.submit(jobs):
        if isinstance(result, RequestError):
            raise result
        z = np.atleast_2d(np.asarray(result.value))
        if len(z) != 1:
            raise MalformedBody(f"an array holds {len(z)} images; each field 'file' is one")
        ends.append(z)
        resized.append(result.resize)
    return np.concatenate(ends), "; ".join(dict.fromkeys(filter(None, resized)))
