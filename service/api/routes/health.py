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
    summary="Check liveness",
    response_class=Response,
    responses={**success("The process answers.", model=Liveness), **problems()},
)
async def live() -> Response:
    """Answer while the process runs. Restart it if there is no answer."""
    return json_response(Liveness(status="alive").model_dump())


@router.get(
    "/ready",
    operation_id="ready",
    summary="Check readiness",
    response_class=Response,
    responses={
        **success("At least one model is live.", model=Readiness),
        **problems(NotReady, Draining),
    },
)
async def ready(request: Request) -> Response:
    """Answer 200 once at least one model is live; send traffic only then. Lists live models and rejected versions."""
    service = service_of(request)
    service.admission.refuse_if_draining()
    snapshot = service.registry.snapshot
    readiness = Readiness(
        status="ready",
        device=service.settings.device,
        provider=service.registry.provider.name,
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
