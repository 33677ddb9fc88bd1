from fastapi import APIRouter, Request, Response

from service.api.openapi import TEXT, problems, success
from service.api.prometheus import OPENMETRICS_TYPE, PLAIN_TYPE
from service.api.service import service_of
from service.errors import NotAcceptable
from service.http.negotiation import negotiate
from service.http.sent import header

router = APIRouter(tags=["health"])
_OFFERS = ("text/plain", "application/openmetrics-text")


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Get metrics for Prometheus",
    response_class=Response,
    responses={**success("Counters, gauges and histograms of all workers.", TEXT), **problems(NotAcceptable)},
)
async def metrics(request: Request) -> Response:
    """Return counts, times and sizes since the start of the service; see docs/monitoring.md."""
    is_openmetrics = negotiate(header(request.scope, b"accept"), _OFFERS) == _OFFERS[1]
    content = await service_of(request).metrics.page(is_openmetrics=is_openmetrics)
    return Response(content, headers={"Content-Type": OPENMETRICS_TYPE if is_openmetrics else PLAIN_TYPE})
