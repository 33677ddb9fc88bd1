"""The ASGI application: live models, endpoints, and every error as a problem document."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service import __version__
from service.api.addresses import Addresses
from service.api.aliases import read_aliases, watch_aliases
from service.api.answer_cache import AnswerCache
from service.api.error_handlers import Problems
from service.api.job_watcher import JobWatcher
from service.api.jobs.runner import JobRunner
from service.api.jobs.webhook import WebhookSender
from service.api.openapi import Schema, add_security
from service.api.prometheus import Metrics
from service.api.routes import ROUTERS
from service.api.service import Service
from service.api.shadow import Shadows
from service.collections.store import open_jobs, open_store
from service.collections.store.threads import StoreThreads
from service.cores import plan
from service.http.admission import Admission
from service.http.api_keys import KeyGate, Right
from service.http.budget import Budget
from service.http.head import HeadAsGet
from service.http.hosts import HostGate, is_loopback
from service.http.instrument import Observing
from service.images.codec import allow_pixels
from service.limits import TILED_SHARE, InputLimits, probe_limits, run_limits
from service.models.probe import Child
from service.models.registry import Registry
from service.models.session import start_provider
from service.settings import Settings
from service.telemetry.counters import Meters
from service.telemetry.multiprocess import PERIOD_S, SharedCounters
from service.telemetry.tracing import Tracer

log = logging.getLogger(__name__)

# So long the port stays silent for models to load. After it, health answers, and requests get "not ready" meanwhile.
_LOADING_HEAD_START_S = 10.0


_DESCRIPTION = """Denoise, encode, decode and find anomalies with autoencoders.

Send an image as the raw body; `Accept` chooses the form of the answer. Every error is `application/problem+json`."""


def create_app(
    settings: Settings, first: Child | None = None, shared: SharedCounters | None = None, tracer: Tracer | None = None
) -> "App":
    """Return the application. Models are loaded when it starts: before the first request, unless that takes very long.

    Args:
        settings: Settings of this service.
        first: From `probe.start_child`.
        shared: Shared counters of all workers, if there are several.
        tracer: Makes spans; without it there are none.

    Raises:
        ProviderUnavailable: The device that was asked for is not there.
    """
    service = _make_service(settings, first, shared or SharedCounters(), tracer)
    app = App(
        title="Hourglass",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,  # `routes/pages.py` has it, with an ETag
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to the sender's Host, and without a path prefix; `error_handlers` has better ones
        servers=[{"url": "."}],  # below the page's own address, also behind a path prefix
        lifespan=_lifespan,
        telemetry=_telemetry(is_tracing=tracer is not None),
    )
    app.service = service
    for router in ROUTERS.values():
        app.router.routes.extend(router.routes)  # flat: a router inside a router matches every request twice
    if _has_keys(settings):
        _describe_keys(app)
    app.middleware_stack = app.build_middleware_stack()  # jobs, which start before any request, go through a part of it
    return app


def _has_keys(settings: Settings) -> bool:
    return bool(settings.api_keys or settings.write_keys or settings.read_keys)


def _make_service(settings: Settings, first: Child | None, shared: SharedCounters, tracer: Tracer | None) -> Service:
    allow_pixels(TILED_SHARE * settings.max_pixels)
    meters = Meters(shared.read_own(), tracer)
    registry = Registry(
        settings.models_dir,
        provider=start_provider(settings.device, max_gpu_bytes=settings.max_gpu_bytes),
        limits=run_limits(settings),
        meters=meters,
        allowed=probe_limits(settings),
        old_versions=settings.old_versions,
        idle_s=settings.idle_model_s,
        first=first,
    )
    admission = Admission(
        max_images=settings.max_queue_images, timeout_s=settings.request_timeout_s, most_s=settings.max_request_s
    )
    answers = AnswerCache(settings.max_cache_bytes, meters)
    budget = Budget(max_bytes=settings.max_memory_bytes, max_seconds=settings.request_timeout_s)
    limits = InputLimits(settings.max_pixels, settings.max_images, settings.max_frames)
    jobs = StoreThreads(settings.collections_url.get_secret_value(), open_jobs)
    return Service(
        settings,
        registry,
        limits,
        admission,
        Metrics(meters, shared, registry, admission, budget, answers),
        StoreThreads(settings.collections_url.get_secret_value(), open_store),
        jobs,
        JobWatcher(jobs, admission),
        budget,
        plan(settings.workers, settings.threads),
        answers,
        Shadows(registry, admission, budget, limits, meters),
    )


@contextlib.asynccontextmanager
async def _lifespan(app: "App") -> AsyncIterator[None]:
    service = app.service
    registry = service.registry
    # Python's own has a thread for each core of the machine, also where a container may use half of one.
    files = ThreadPoolExecutor(service.plan.pool, thread_name_prefix="files")
    asyncio.get_running_loop().set_default_executor(files)
    loading = asyncio.create_task(_load(service))
    await asyncio.wait([loading], timeout=_LOADING_HEAD_START_S)
    if loading.done():
        loading.result()
    tasks = [asyncio.create_task(_watch(service, loading))]
    runner = JobRunner(service, app, app.behind_keys)
    jobs = asyncio.create_task(runner.run())
    if service.settings.webhook_hosts:
        tasks.append(asyncio.create_task(WebhookSender(service).run()))
    if service.metrics.shared.directory is not None:
        tasks.append(asyncio.create_task(_share(service.metrics)))
    yield
    runner.stop()
    await jobs
    await service.shadows.stop()
    registry.close()
    await asyncio.to_thread(service.store.close)
    await asyncio.to_thread(service.jobs.close)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class App(FastAPI):
    """FastAPI's routes behind what every request passes first.

    Attributes:
        service: What every endpoint finds.
        behind_keys: The part that a request reaches once its host and key are known to be right.
    """

    service: Service
    behind_keys: ASGIApp

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the routes: counting -> hosts -> CORS -> keys -> HEAD -> errors -> addresses -> FastAPI's routes."""
        settings = self.service.settings
        app: ASGIApp = HeadAsGet(Problems(Addresses(self.router, ROUTERS.values())))
        self.behind_keys = app  # a job has passed everything before it when it was taken
        if _has_keys(settings):
            keys: dict[Right, Sequence[SecretStr]] = {
                "read": settings.read_keys,
                "write": settings.write_keys,
                "admin": settings.api_keys,
            }
            app = KeyGate(app, keys={right: [key.get_secret_value() for key in keys[right]] for right in keys})
        if settings.cors_origins:  # outermost: a browser asks for permission without a key
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=[
                    *("Authorization", "X-API-Key", "Accept", "Content-Type", "Prefer", "X-Metadata", "X-Request-Id"),
                ],
                expose_headers=[
                    *("Location", "X-Model", "X-Resize", "X-Sigma", "X-Seed", "X-Request-Id", "Retry-After"),
                ],
            )
        is_private = is_loopback(settings.host) and not _has_keys(settings)
        if (settings.allowed_hosts or is_private) and "*" not in settings.allowed_hosts:
            app = HostGate(app, allowed=settings.allowed_hosts)
        service = self.service
        return Observing(
            app,
            routers=ROUTERS.values(),
            meters=service.metrics.meters,
            budget=service.budget,
            is_logging=settings.access_log,
        )


def _telemetry(*, is_tracing: bool) -> TelemetryConfig:
    # Metrics and logs are our own. What is not turned off costs time in every request: it looks for exporters.
    return {
        "tracing": is_tracing,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": is_tracing,
    }


async def _load(service: Service) -> None:
    await service.registry.refresh()
    await read_aliases(service)


async def _watch(service: Service, loading: asyncio.Task[None]) -> None:
    await loading
    await asyncio.gather(service.registry.watch(service.settings.watch_interval_s), watch_aliases(service))


async def _share(metrics: Metrics) -> None:
    while True:
        await metrics.share()
        await asyncio.sleep(PERIOD_S)


def _describe_keys(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = add_security(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
