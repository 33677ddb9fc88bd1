"""What every endpoint finds at `request.app.state.service`."""

from dataclasses import dataclass, field

from starlette.requests import Request

from service.api.prometheus import Metrics
from service.collections.store.threads import StoreThreads
from service.http.admission import Admission
from service.http.budget import Budget
from service.limits import InputLimits
from service.models.registry import Registry
from service.settings import Settings
from service.tasks.picture_limiter import PictureLimiter


@dataclass(frozen=True)
class Service:
    """Settings, live models, their queue and figures; made once, endpoints find it as `request.app.state.service`."""

    settings: Settings
    registry: Registry
    limits: InputLimits
    admission: Admission
    metrics: Metrics
    store: StoreThreads
    budget: Budget
    limiter: PictureLimiter = field(default_factory=PictureLimiter)


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
