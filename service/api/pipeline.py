"""What every endpoint shares: the state made at start, and the path of a request from its files to its answer."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from service.api.responses import several_response, single_response
from service.api.schemas import ModelQuery
from service.api.service import Service, service_of
from service.contract.manifest import Manifest, Task
from service.errors import RequestError
from service.http.body import file_cap, read_files
from service.http.negotiation import negotiate
from service.images.inspect import is_colour
from service.images.npy import count_rows
from service.limits import InputLimits
from service.models.batcher import Batcher, Job
from service.tasks.answer import Answer
from service.tasks.restore import Restoration

# data, manifest, limits, accept -> the job of one file
MakeJob = Callable[[bytes, Manifest, InputLimits, str | None], Job[Answer] | Restoration]


async def answer_files(
    request: Request, query: ModelQuery, task: Task, make_job: MakeJob, *, several: Mapping[str, str | None]
) -> Response:
    """Runs every file of a request through one task.

    Args:
        request: With the files in its body.
        query: Which model.
        task: Its task.
        make_job: Makes the job of one file.
        several: What an answer to several files can be, best first, and the Accept that each file then has.

    Raises:
        RequestError: The request fails as a whole. Of several files, each has its own problem in the answer.
    """
    service = service_of(request)
    with service.admission.admit() as slot:
        model = await service.registry.find(task, query.model, query.version)
        files = await read_files(request, file_cap(service.settings), max_files=service.limits.max_images)
        slot.start(request, sum(count_rows(file, rank=4, at_most=service.limits.max_images) for file in files))
        accept = request.headers.get("accept")
        if query.model is None and query.version is None:
            model = service.registry.snapshot.default_among(task, model, is_colour=any(map(is_colour, files)))
        batcher = model.batcher_by_task[task]
        if len(files) == 1:
            (result,) = await _run(service, batcher, [make_job(files[0], model.manifest, service.limits, accept)])
            if isinstance(result, RequestError):
                raise result
            return single_response(result, model.label)
        kind = negotiate(accept, list(several))
        jobs = [make_job(file, model.manifest, service.limits, several[kind]) for file in files]
        results = await _run(service, batcher, jobs)
        for result in results:
            if isinstance(result, RequestError):
                service.metrics.meters.failed(result.code)
        return await asyncio.to_thread(several_response, results, kind, model.label)


async def _run(
    service: Service, batcher: Batcher, jobs: Sequence[Job[Answer] | Restoration]
) -> list[Answer | RequestError]:
    """Every job's answer or its error. Restorations go one after another: their pictures are large."""
    whole = [job for job in jobs if isinstance(job, Restoration)]
    if not whole:
        return await batcher.submit([job for job in jobs if not isinstance(job, Restoration)])
    results: list[Answer | RequestError] = []
    for restoration in whole:
        try:
            async with service.turns.turn_of(restoration.data, service.limits):
                results.append(await restoration.answer(batcher))
        except RequestError as error:
            results.append(error)
    return results
