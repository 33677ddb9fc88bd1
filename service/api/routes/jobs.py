import json
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response

from service.api.job_schemas import JobAnswer, job_document
from service.api.jobs.stored import StoredAnswer
from service.api.openapi import ANY, EVENTS, NO_CONTENT, problems, success
from service.api.responses import Stream, json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import STORE_ERRORS
from service.api.service import Service, service_of
from service.collections.store.job import Job, no_job
from service.collections.store.jobs import JobQueue
from service.errors import (
    PROBLEM_JSON,
    JobLost,
    JobNotDone,
    JobNotFound,
    QueueFull,
    RequestError,
)
from service.http.api_keys import owner_of
from service.http.budget import hold_of
from service.http.encoding import write_json

router = APIRouter(prefix="/jobs/{id}", tags=["jobs"], route_class=AdmittedRoute)
T = TypeVar("T")
JobId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="Id of the job")]
_ERRORS: tuple[type[RequestError], ...] = (JobNotFound, *STORE_ERRORS)
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
    size = await _ask(request, id, lambda queue, owner: queue.result_size(id, owner))
    hold_of(request).reserve(bytes=size)  # from before it is read until its client has read it
    job, head, content = await _ask(request, id, lambda queue, owner: queue.result(id, owner))
    if job.problem is not None:
        problem = json.loads(job.problem)
        return Response(job.problem, status_code=problem["status"], media_type=PROBLEM_JSON)
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
    service = service_of(request)
    job = await service.watcher.find(id) if service.has_jobs else None
    if job is None or not job.is_for(owner_of(request.scope)):
        raise no_job(id)
    if service.watcher.count >= _MAX_STREAMS:
        raise QueueFull(
            f"{service.watcher.count} jobs are followed now, the limit is {_MAX_STREAMS}; poll GET /jobs/{id} instead",
            headers={"Retry-After": "5"},
        )
    events = _events(service, job)
    await anext(events)  # it counts from here on: others that start at the same time find it
    return Stream(
        events,
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
        raise no_job(job_id)
    return await service.jobs.run(lambda queue: ask(queue, owner))


async def _events(service: Service, followed: Job) -> AsyncGenerator[bytes]:
    with service.watcher.follow(followed) as follower:
        yield b""
        told = b""
        while (job := follower.job) is not None:
            event = b"event: job\ndata: " + write_json(job_document(job)) + b"\n\n"
            if event != told:
                yield event
                told = event
            elif not service.admission.is_draining:
                yield b": still so\n\n"
            if job.has_ended or service.admission.is_draining:
                return
            await follower.wait(_COMMENT_EVERY_S)
        yield b"event: gone\ndata: {}\n\n"
