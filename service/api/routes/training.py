import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.openapi import NO_CONTENT, problems, success
from service.api.responses import json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import STORE_ERRORS, ModelName
from service.api.service import Service, service_of
from service.api.training_schemas import TrainingAnswer, TrainingQuery, TrainingsAnswer, TrainingWithLog
from service.collections.store import Store
from service.collections.store.job import new_id
from service.collections.store.jobs import JobQueue
from service.collections.store.trainings import AT_WORK, Training, Trainings
from service.errors import (
    JobNotFound,
    JobsFull,
    ModelNotFound,
    NoTrainingWorker,
    NotReady,
    RequestError,
    TaskNotOffered,
    TrainingBusy,
    TrainingNotFound,
    TrainingNotReady,
)

router = APIRouter(tags=["training"], route_class=AdmittedRoute)
TrainingId = Annotated[str, Path(min_length=1, max_length=64, description="Id of the training")]

KIND = "train"  # of the jobs in the queue
SEEN_S = 30.0  # a worker asks for work every few seconds
_MOST_WORKERS = 3  # that begin a training; after them it has failed


@router.get(
    "/models/{name}/training",
    operation_id="get_trainings",
    summary="List the trainings of a model",
    response_class=Response,
    responses={**success("The newest first.", model=TrainingsAnswer), **problems(*STORE_ERRORS)},
)
async def get_trainings(request: Request, name: ModelName) -> Response:
    """List the last 20 trainings, newest first, and the connected workers."""
    service = service_of(request)
    trainings = await service.store.run(lambda store: store.trainings.of_model(name))
    workers = await service.store.run(lambda store: store.trainings.workers(within_s=SEEN_S))
    current = [await _reconciled(service, training) for training in trainings]
    return json_response({"model": name, "workers": workers, "trainings": [_describe(one) for one in current]})


@router.post(
    "/models/{name}/training",
    operation_id="start_training",
    summary="Make the next version of a model from feedback",
    status_code=202,
    response_class=Response,
    responses={
        202: success("The training is queued.", model=TrainingAnswer)[200],
        **problems(*STORE_ERRORS, ModelNotFound, TaskNotOffered, NotReady, NoTrainingWorker, TrainingBusy, JobsFull),
    },
)
async def start_training(request: Request, name: ModelName, query: Annotated[TrainingQuery, Query()]) -> Response:
    """Queue a training for a worker (`python -m training worker --service URL`).

    Nothing goes live before you approve it: the answer of `GET` has the card of the new version, to compare with the
    one that is live.
    """
    service = service_of(request)
    name = (await service.registry.find("anomaly", name, None)).manifest.name  # it may be an alias
    if not await service.store.run(lambda store: store.trainings.workers(within_s=SEEN_S)):
        what = f"calibrate {name}" if query.work == "calibrate" else f"fit anomaly --name {name}"
        raise NoTrainingWorker(
            "no training worker is connected to this service; start one with `python -m training worker --service URL`"
            f", or run `python -m training {what} --feedback URL` yourself"
        )
    training_id = new_id()
    await service.store.write(lambda store: store.trainings.begin(training_id, name, query.work))
    return await _queued(service, name, training_id, undo=lambda trainings: trainings.remove(name, training_id))


@router.get(
    "/models/{name}/training/{id}",
    operation_id="get_training",
    summary="Get a training",
    response_class=Response,
    responses={
        **success("The training, its log, and the new card.", model=TrainingWithLog),
        **problems(*STORE_ERRORS, TrainingNotFound),
    },
)
async def get_training(request: Request, name: ModelName, id: TrainingId) -> Response:  # noqa: A002  its name on the wire
    """Return a training with its log and the card of the new version."""
    service = service_of(request)
    training, left = await service.store.run(lambda store: store.trainings.find(name, id))
    if await _reconciled(service, training) is not training:  # it has ended meanwhile: so have its log and card
        training, left = await service.store.run(lambda store: store.trainings.find(name, id))
    return json_response({**_describe(training), **vars(left)})


@router.post(
    "/models/{name}/training/{id}/approve",
    operation_id="approve_training",
    summary="Approve a new version",
    status_code=202,
    response_class=Response,
    responses={
        202: success("The worker publishes it.", model=TrainingAnswer)[200],
        **problems(*STORE_ERRORS, TrainingNotFound, TrainingNotReady, JobsFull),
    },
)
async def approve_training(request: Request, name: ModelName, id: TrainingId) -> Response:  # noqa: A002
    """Queue the publication of a version that is ready. It is live seconds after the worker has published it."""
    service = service_of(request)
    await service.store.write(lambda store: store.trainings.approve(name, id))
    return await _queued(service, name, id, undo=lambda trainings: trainings.withdraw(id))


@router.delete(
    "/models/{name}/training/{id}",
    operation_id="delete_training",
    summary="Cancel or discard a training",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*STORE_ERRORS, TrainingNotFound)},
)
async def delete_training(request: Request, name: ModelName, id: TrainingId) -> Response:  # noqa: A002
    """Cancel a queued or running training, discard a version that is ready, or delete the record of an ended one."""
    service = service_of(request)
    training = await service.store.write(lambda store: store.trainings.remove(name, id))
    await drop_job(service, training.job)
    return Response(status_code=204)


async def drop_job(service: Service, job: str | None) -> None:
    """Remove a job from the queue, if it is still there."""
    if job is not None:
        with contextlib.suppress(JobNotFound):
            await service.jobs.write(lambda queue: queue.remove(job))


async def _queued(service: Service, name: str, training_id: str, *, undo: Callable[[Trainings], object]) -> Response:
    """Queue a job for a training and return the answer. If there is no room, call `undo`."""
    try:
        await _queue(service, training_id)
    except RequestError:
        await service.store.write(lambda store: undo(store.trainings))
        raise
    training, _ = await service.store.run(lambda store: store.trainings.find(name, training_id))
    return json_response(_describe(training), status=202)


async def _queue(service: Service, training_id: str) -> None:
    payload = json.dumps({"training": training_id}).encode()
    submit = partial(JobQueue.submit, kind=KIND, payload=payload, bounds=service.job_bounds, max_attempts=_MOST_WORKERS)
    job = await service.jobs.write(submit)
    await service.store.write(lambda store: store.trainings.set_job(training_id, job.id))


async def _reconciled(service: Service, training: Training) -> Training:
    """Record the failure of a training whose job has ended without a report."""
    job = training.job
    if training.state not in AT_WORK or job is None:
        return training
    try:
        found = await service.jobs.run(lambda queue: queue.job(job))
        problem = json.loads(found.problem)["detail"] if found.problem else None
    except JobNotFound:
        problem = "the queue of jobs has lost it; ask for it again"
    if problem is None:
        return training

    def note(store: Store) -> Training:
        store.trainings.set_failed(training.id, problem, job=job)
        return store.trainings.find(training.model, training.id)[0]

    return await service.store.write(note)


def _describe(training: Training) -> dict[str, object]:
    return {name: value for name, value in vars(training).items() if name != "job"}
