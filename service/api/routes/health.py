from fastapi import APIRouter, Request, Response

from service.api.openapi import problems, success
from service.api.responses import json_response
from service.api.schemas import LiveModel, Liveness, Readiness, RejectedModel
from service.api.service import service_of
from service.errors import Draining, NotReady

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "/live",
    operation_id="live",
    summary="Does the process answer?",
    response_class=Response,
    responses={**success("It does.", model=Liveness), **problems()},
)
async def live() -> Response:
    """Restart the process if this stays away."""
    return json_response(Liveness(status="alive").model_dump())


@router.get(
    "/ready",
    operation_id="ready",
    summary="Can it do its work?",
    response_class=Response,
    responses={
        **success("At least one model is live.", model=Readiness),
        **problems(NotReady, Draining),
    },
)
async def ready(request: Request) -> Response:
    """Send traffic only after this is 200. Says what is live, where it runs, and which versions were rejected."""
    service = service_of(request)
    service.admission.refuse_if_draining()
    snapshot = service.registry.snapshot
    readiness = Readiness(
        status="ready",
        device=service.settings.device,
        provider=service.registry.provider,
        cores=service.plan.cores,
        workers=service.plan.workers,
        threads=service.plan.threads,
        models=[
            LiveModel(name=name, version=model.manifest.version, tasks=list(model.manifest.tasks))
            for name, model in sorted(snapshot.model_by_name.items())
        ],
        rejected=[
            RejectedModel(name=rejected.name, version=rejected.version, reason=rejected.reason)
            for _, rejected in sorted(snapshot.rejected.items())
        ],
    ).model_dump(mode="json")
    if not snapshot.model_by_name:
        raise NotReady(
            "the models are still being loaded"
            if snapshot.is_loading
            else "no model is live; `rejected` says why, and an empty one means that the directory holds none",
            headers={"Retry-After": "5"},
            extra={"provider": readiness["provider"], "rejected": readiness["rejected"]},
        )
    return json_response(readiness)
