import asyncio
import json
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response

from service.api.job_schemas import JobAnswer, job_document
from service.api.jobs.stored import StoredAnswer
from service.api.openapi import ANY, EVENTS, NO_CONTENT, problems, success
from service.api.responses import Stream, json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import STORE_ERRORS
from service.api.service import Service, service_of
from service.collections.store.jobs import Job, JobQueue
from service.errors import (
    PROBLEM_JSON,
    JobLost,
    JobNotDone,
    JobNotFound,
    QueueFull,
    RequestError,
    StoreUnavailable,
    shown,
)
from service.http.api_keys import owner_of
from service.http.budget import hold_of
from service.http.encoding import write_json

router = APIRouter(prefix="/jobs/{id}", tags=["jobs"], route_class=AdmittedRoute)
T = TypeVar("T")
JobId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="Id of the job")]
_ERRORS: tuple[type[RequestError], ...] = (JobNotFound, *STORE_ERRORS)
_LOOK_EVERY_S = 0.5
_COMMENT_EVERY_S = 15.0  # so that no proxy takes a silent connection for a dead one
_MAX_STREAMS = 256  # in each worker


@router.get(
    "",
    operation_id="get_job",
    summary="Get the state of a job",
    response_class=Response,
    responses={**success("The job.", model=JobAnswer), **problems(*_ERRORS)},
)
async def get_job(request: Request, id: JobId) -> Response:  # noqa: A002  its name in the path
    """Return the state of a job, its position in the queue, and the number of tiles that are done."""
    return json_response(job_document(await _ask(request, id, lambda queue, owner: queue.job(id, owner))))


@router.get(
    "/result",
    operation_id="get_job_result",
    summary="Get the result of a job",
    response_class=Response,
    responses={
        **success("The answer of the request.", ANY),
        **problems(*_ERRORS, JobNotDone, JobLost),
    },
)
async def get_job_result(request: Request, id: JobId) -> Response:  # noqa: A002
    """Return the answer of the request, or the problem of a failed job. Before the end it is a 409."""
    job, head, content = await _ask(request, id, lambda queue, owner: queue.result(id, owner))
    if job.problem is not None:
        problem = json.loads(job.problem)
        return Response(job.problem, status_code=problem["status"], media_type=PROBLEM_JSON)
    hold_of(request).reserve(bytes=len(content))  # until its client has read it
    answer = StoredAnswer.from_json(head)
    return Response(content, status_code=answer.status, headers=answer.headers)


@router.get(
    "/events",
    operation_id="watch_job",
    summary="Follow a job",
    response_class=Response,
    responses={**success("Server-sent events.", EVENTS), **problems(*_ERRORS)},
)
async def watch_job(request: Request, id: JobId) -> Response:  # noqa: A002
    """Send an event `job` with the answer of `GET /jobs/{id}` whenever it changes, until the job ends.

    An event `gone` means that the job was cancelled or deleted.
    """
    service, owner = service_of(request), owner_of(request.scope)
    job = await _ask(request, id, lambda queue, owner: queue.job(id, owner))
    if service.streams.count >= _MAX_STREAMS:
        raise QueueFull(
            f"{service.streams.count} jobs are followed now, the limit is {_MAX_STREAMS}; poll GET /jobs/{id} instead",
            headers={"Retry-After": "5"},
        )
    return Stream(
        _events(service, job, owner),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.delete(
    "",
    operation_id="delete_job",
    summary="Cancel a job",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*_ERRORS)},
)
async def delete_job(request: Request, id: JobId) -> Response:  # noqa: A002
    """Cancel a queued or running job, or delete the result of one that has ended."""
    await _ask(request, id, lambda queue, owner: queue.remove(id, owner))
    return Response(status_code=204)


async def _ask(request: Request, job_id: str, ask: Callable[[JobQueue, str | None], T]) -> T:
    service, owner = service_of(request), owner_of(request.scope)
    if not service.has_jobs:  # no database is made for a question
        raise JobNotFound(f"no job {shown(job_id)}; ended jobs are deleted after job_keep_s")
    return await service.jobs.run(lambda queue: ask(queue, owner))


async def _events(service: Service, job: Job, owner: str | None) -> AsyncIterator[bytes]:
    with service.streams.one():
        told, told_at = b"", monotonic()
        while True:
            event = b"event: job\ndata: " + write_json(job_document(job)) + b"\n\n"
            if event != told:
                yield event
                told, told_at = event, monotonic()
            elif monotonic() - told_at > _COMMENT_EVERY_S:
                yield b": still so\n\n"
                told_at = monotonic()
            if job.has_ended or service.admission.is_draining:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                job = await service.jobs.run(lambda queue: queue.job(job.id, owner))  # noqa: B023  it is awaited here
            except JobNotFound:
                yield b"event: gone\ndata: {}\n\n"
                return
            except StoreUnavailable:  # the next look may find it
                continue
