"""The path of a request for images: find the model, read, decode, run, answer. Its route has admitted it before."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from service.api.responses import several_response, single_response
from service.api.schemas import ModelQuery
from service.api.service import reserve, service_of
from service.contract.manifest import Manifest, Task
from service.errors import RequestError
from service.http.admission import slot_of
from service.http.body import file_cap, read_files
from service.http.negotiation import negotiate
from service.images.form import PLAIN, Form
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.models.batcher import Batcher
from service.tasks.answer import Answer
from service.tasks.work import FileWork, Work

# file, manifest, limits, accept -> its way to an answer
MakeWork = Callable[[ImageFile, Manifest, InputLimits, str | None], FileWork]


async def answer_files(
    request: Request, query: ModelQuery, task: Task, make_work: MakeWork, *, several: Mapping[str, str | None]
) -> Response:
    """Run every file of a request through one task.

    Args:
        request: With the files in its body.
        query: Which model.
        task: Its task.
        make_work: Makes the work on one file.
        several: What an answer to several files can be, best first, and the Accept that each file then has.

    Raises:
        RequestError: The request fails as a whole. Of several files, each has its own problem in the answer.
    """
    service, accept = service_of(request), request.headers.get("accept")
    model = await service.registry.find(task, query.model, query.version)
    files = await read_image_files(request, query.form)
    if query.model is None and query.version is None:
        is_colour = any(file.header.is_colour for file in files)
        model = service.registry.snapshot.default_among(task, model, is_colour=is_colour)
    batcher = model.batcher_by_task[task]
    kind = negotiate(accept, list(several)) if len(files) > 1 else ""
    each_accept = several[kind] if kind else accept
    works = [make_work(file, model.manifest, service.limits, each_accept) for file in files]
    if not kind:

        async def make() -> Answer:
            await reserve(request, works[0].cost(files, batcher))
            return await works[0].run(batcher)

        answer = await service.answers.get_or_make(make, files[0].data, model, task, query, accept)
        return single_response(answer, model.label)
    await reserve(request, works[0].cost(files, batcher))
    results = await _run_each(works, batcher)
    for result in results:
        if isinstance(result, RequestError):
            service.metrics.meters.failed(result.code)
    return await asyncio.to_thread(several_response, results, kind, model.label)


async def read_image_files(request: Request, form: Form = PLAIN) -> list[ImageFile]:
    """Return the image and NPY files of a request, counted for its place in the queue. Its deadline runs from here.

    Args:
        request: With the files in its body.
        form: How it says their values are laid out.

    Raises:
        RequestError: The body cannot be read, or its images do not fit into the queue.
    """
    service = service_of(request)
    limits = service.limits
    bodies = await read_files(request, file_cap(service.settings), max_files=limits.max_images)
    files = [ImageFile.of(body, form) for body in bodies]
    slot_of(request).start(request, sum(min(file.header.images, limits.max_images) for file in files))
    return files


async def _run_each(works: Sequence[FileWork], batcher: Batcher) -> list[Answer | RequestError]:
    """Return every file's answer or its problem. All start at once, so small ones share a batch; large ones do not."""
    if works[0].is_tiled:  # so that one picture at a time is held
        return [await _answer_of(work, batcher) for work in works]
    return list(await asyncio.gather(*(_answer_of(work, batcher) for work in works)))


async def _answer_of(work: Work, batcher: Batcher) -> Answer | RequestError:
    try:
        return await work.run(batcher)
    except RequestError as error:
        return error
