import json
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError

from service.api.openapi import problems, success
from service.api.openapi_bodies import json_body
from service.api.responses import json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import STORE_ERRORS
from service.api.routes.training import KIND, TrainingId, drop_job
from service.api.service import Service, service_of
from service.api.training_schemas import EndBody, GoOnAnswer, LeaseAnswer, LeaseBody, LeasedBody, ReportBody
from service.collections.store import Store
from service.collections.store.job import Lease
from service.collections.store.trainings import Training
from service.errors import (
    BodyTooLarge,
    InvalidParameter,
    MalformedBody,
    RequestTimeout,
)
from service.http.body import complaint, json_cap, parse_json, read_plain_body

router = APIRouter(prefix="/training", tags=["training"], route_class=AdmittedRoute)
Body = TypeVar("Body", bound=BaseModel)

_LEASE_S = 60.0  # a worker reports every few seconds
_ERRORS = problems(*STORE_ERRORS, MalformedBody, BodyTooLarge, RequestTimeout)


@router.post(
    "/lease",
    operation_id="lease_training",
    summary="Lease a training (for workers)",
    response_class=Response,
    openapi_extra=json_body(LeaseBody),
    responses={
        **success("A training.", model=LeaseAnswer),
        204: {"description": "There is nothing to do; ask again in some seconds.", "content": {}},
        **_ERRORS,
    },
)
async def lease_training(request: Request) -> Response:
    """Lease the oldest training to a worker, which keeps it by reporting at least once a minute."""
    service = service_of(request)
    worker = (await _read(request, LeaseBody)).worker
    await service.store.write(lambda store: store.trainings.see(worker))
    while lease := await service.jobs.write(lambda queue: queue.lease(KIND, lease_s=_LEASE_S)):
        training_id = json.loads(lease.payload)["training"]
        training = await service.store.write(partial(_start, training_id, worker))
        if training is not None:
            work = "publish" if training.state == "approved" else training.work
            return json_response(
                {
                    **{"id": training.id, "model": training.model, "work": work},
                    **{"job": lease.id, "token": lease.token, "lease_s": _LEASE_S},
                }
            )
        await drop_job(service, lease.id)  # cancelled between the two databases
    return Response(status_code=204)


@router.post(
    "/{id}/report",
    operation_id="report_training",
    summary="Report progress of a training (for workers)",
    response_class=Response,
    openapi_extra=json_body(ReportBody),
    responses={**success("Whether to go on.", model=GoOnAnswer), **_ERRORS},
)
async def report_training(request: Request, id: TrainingId) -> Response:  # noqa: A002  its name on the wire
    """Renew the lease and store the progress for the page."""
    service, body = service_of(request), await _read(request, ReportBody)
    is_mine = await _beat(service, body)
    if is_mine:
        await service.store.write(
            lambda store: store.trainings.report(id, said=body.said, share=body.share, lines=body.lines)
        )
    return json_response({"go_on": is_mine})


@router.post(
    "/{id}/end",
    operation_id="end_training",
    summary="Report the end of a training (for workers)",
    response_class=Response,
    openapi_extra=json_body(EndBody),
    responses={**success("Whether the report was accepted.", model=GoOnAnswer), **_ERRORS},
)
async def end_training(request: Request, id: TrainingId) -> Response:  # noqa: A002  its name on the wire
    """End a training once: `card` and `old_version` of a version to approve, `version` of a live one, or `problem`."""
    service, body = service_of(request), await _read(request, EndBody)
    if not await _beat(service, body):
        return json_response({"go_on": False})
    await service.store.write(partial(_end, id, body))
    await drop_job(service, body.job)
    return json_response({"go_on": True})


def _start(training_id: str, worker: str, store: Store) -> Training | None:
    return store.trainings.start(training_id, worker)


def _end(training_id: str, body: EndBody, store: Store) -> None:
    if body.problem is not None:
        store.trainings.set_failed(training_id, body.problem)
    elif body.version is not None:
        store.trainings.set_live(training_id, version=body.version)
    else:
        assert body.card is not None and body.old_version is not None  # noqa: S101,PT018  the body has been checked
        store.trainings.set_ready(training_id, card=body.card, old_version=body.old_version)


async def _beat(service: Service, body: LeasedBody) -> bool:
    lease = Lease(body.job, body.token, KIND, b"", 0)
    return await service.jobs.write(lambda queue: queue.beat(lease, lease_s=_LEASE_S, done=0, steps=0))


async def _read(request: Request, model: type[Body]) -> Body:
    content = await read_plain_body(request, json_cap(service_of(request).settings))
    try:
        return model.model_validate(parse_json(content))
    except ValidationError as error:
        raise InvalidParameter(
            f"{complaint(error)}; the body is an object of {', '.join(model.model_fields)}"
        ) from error
