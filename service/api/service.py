"""The parts of a running service, which endpoints get by `service_of(request)`."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from service.api.answer_cache import AnswerCache
from service.api.job_watcher import JobWatcher
from service.api.page_cache import PageCache
from service.api.prometheus import Metrics
from service.api.shadow import Shadows
from service.api.signals import Signal
from service.collections.store import Store, collections_file_of, jobs_file_of
from service.collections.store.job import JobBounds
from service.collections.store.jobs import JobQueue
from service.collections.store.threads import StoreThreads
from service.cores import Plan
from service.deadline import set_due
from service.errors import TooMuchMemory, TooMuchWork
from service.http.admission import TIMEOUT, Admission, slot_of
from service.http.budget import Budget, hold_of
from service.limits import InputLimits
from service.models.model import Model
from service.models.registry import Registry
from service.settings import Settings
from service.tasks.cost import Cost


@dataclass(frozen=True)
class Service:
    """Settings, live models, their queue and figures; made once, endpoints find it by `service_of`."""

    settings: Settings
    registry: Registry
    limits: InputLimits
    admission: Admission
    metrics: Metrics
    store: StoreThreads[Store]
    jobs: StoreThreads[JobQueue]
    watcher: JobWatcher
    budget: Budget
    plan: Plan
    answers: AnswerCache
    shadows: Shadows
    pages: PageCache = field(default_factory=PageCache)
    job_signal: Signal = field(default_factory=Signal)
    webhook_signal: Signal = field(default_factory=Signal)
    alias_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Making a page of a list is all Python, so several at once take no less time and keep the event loop waiting.
    list_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def job_bounds(self) -> JobBounds:
        """Limits of the job queue: number of jobs and retention time."""
        settings = self.settings
        return JobBounds(settings.max_jobs, settings.max_jobs_bytes, settings.job_keep_s)

    @property
    def has_jobs(self) -> bool:
        """Whether the job queue exists: its file is created with the first job, a database server always has one."""
        if self.settings.max_jobs == 0:
            return False
        file = jobs_file_of(self.settings.collections_url.get_secret_value())
        return file is None or file.exists()

    @property
    def has_store(self) -> bool:
        """Whether the database of collections exists: its file is created with the first write."""
        file = collections_file_of(self.settings.collections_url.get_secret_value())
        return file is None or file.exists()


# Times what a request is expected to need: an estimate may be half of the truth, and others have the cores, too.
_TIMES_EXPECTED = 3
# Times request_timeout_s that one answer may be expected to need. By default this admits the largest picture for every
# shipped model, 50 s by `photo`, but not in eight orientations: it would keep other large pictures out for minutes.
_MOST_TIMES_TIMEOUT = 4


async def reserve(request: Request, cost: Cost) -> None:
    """Wait until the budget has room for a request of known cost, and set its deadline, which grows with the cost.

    Raises:
        TooMuchMemory: The request needs more memory than one may take.
        TooMuchWork: The cost exceeds the limit of one answer, and the request is not a job.
        QueueFull: There was no room for a third of the time limit of a request.
    """
    hold = hold_of(request)
    if hold.is_uncounted(cost.bytes, cost.seconds):
        return
    settings = service_of(request).settings
    timeout_s, max_bytes = settings.request_timeout_s, settings.max_request_memory_bytes
    if cost.bytes > max_bytes:
        raise TooMuchMemory(
            f"the request is expected to need {cost.bytes >> 20} MiB of memory, the limit is {max_bytes >> 20} MiB "
            f"(setting max_request_memory_bytes); {cost.cure}"
        )
    if cost.seconds > _MOST_TIMES_TIMEOUT * timeout_s and TIMEOUT not in request.scope:
        cure = "send it as a job, with the header Prefer: respond-async" if settings.max_jobs else "send less"
        raise TooMuchWork(
            f"the request is expected to take {cost.seconds:.3g} s of CPU time, the limit is "
            f"{_MOST_TIMES_TIMEOUT * timeout_s:g} s ({_MOST_TIMES_TIMEOUT} x the setting request_timeout_s); {cure}"
        )
    await hold.wait_for_room(bytes=cost.bytes, seconds=cost.seconds, at_most_s=timeout_s / 3)
    slot_of(request).allow(_TIMES_EXPECTED * cost.seconds)
    set_due(asyncio.get_running_loop().time() + cost.seconds)


async def find_version(request: Request, name: str, version: int | None) -> Model:
    """Return a model version for its description.

    A version that must be loaded first passes admission control, as any long work does.

    Raises:
        RequestError: The version is missing, or the service is overloaded.
    """
    service = service_of(request)
    snapshot = service.registry.snapshot
    name, version = service.registry.resolve(name, version)
    live = snapshot.model_by_name.get(name)
    if version is None or (live is not None and live.manifest.version == version):
        return await service.registry.find_version(snapshot, name, version)
    with service.admission.admit() as slot:
        slot.start(request, 1)
        return await service.registry.find_version(snapshot, name, version)


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.scope["app"].service  # `request.app.state` would cost a request 1 %
    return service
