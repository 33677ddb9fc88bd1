"""The ASGI application: live models, endpoints, and every error as a problem document."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from service import __version__
from service.api.openapi import Schema, add_security
from service.api.prometheus import Metrics
from service.api.routes import ROUTERS
from service.api.service import Service
from service.collections.store.threads import StoreThreads
from service.errors import (
    InternalError,
    InvalidParameter,
    MalformedBody,
    MethodNotAllowed,
    RequestError,
    RouteNotFound,
    shown,
)
from service.http.admission import Admission
from service.http.api_keys import KeyGate
from service.http.budget import Budget
from service.http.instrument import CLIENT_LEFT, Observing, request_id
from service.http.problems import problem_response
from service.images.codec import allow_pixels
from service.limits import InputLimits, probe_limits, run_limits
from service.models.probe import Child
from service.models.registry import Registry
from service.models.session import start_provider
from service.settings import Settings
from service.telemetry.counters import Meters
from service.telemetry.multiprocess import PERIOD_S, Board
from service.telemetry.tracing import Tracer

log = logging.getLogger(__name__)

# So long the port stays silent for models to load. After it, health answers, and requests get "not ready" meanwhile.
_LOADING_HEAD_START_S = 10.0

_MOST_SENTENCES = 3  # about one query; a long one can be wrong in thousands of places

_DESCRIPTION = """Denoise, encode, decode and find anomalies with autoencoders.

Send an image as the raw body; `Accept` chooses the form of the answer. Every error is `application/problem+json`."""


def create_app(
    settings: Settings, first: Child | None = None, board: Board | None = None, tracer: Tracer | None = None
) -> FastAPI:
    """The application. Models are loaded when it starts: before the first request, unless that takes very long.

    Args:
        settings: Of this service.
        first: From `probe.start_child`.
        board: Of all workers, where there are several.
        tracer: Makes spans; without it there are none.

    Raises:
        ProviderUnavailable: The device that was asked for is not there.
    """
    allow_pixels(settings.max_pixels)
    board = board or Board()
    meters = Meters(board.read_own(), tracer)
    registry = Registry(
        settings.models_dir,
        provider=start_provider(settings.device),
        limits=run_limits(settings),
        meters=meters,
        allowed=probe_limits(settings),
        old_versions=settings.old_versions,
        first=first,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(registry.refresh())
        await asyncio.wait([loading], timeout=_LOADING_HEAD_START_S)
        if loading.done():
            loading.result()
        tasks = [asyncio.create_task(_watch(registry, loading, settings.watch_interval_s))]
        if board.directory is not None:
            tasks.append(asyncio.create_task(_share(metrics)))
        yield
        registry.close()
        await asyncio.to_thread(store.close)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    app = _App(
        title="Hourglass",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,  # `routes/pages.py` has it, with an ETag
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_telemetry(is_tracing=tracer is not None),
    )
    limits = InputLimits(settings.max_pixels, settings.max_images, settings.max_frames)
    admission = Admission(max_images=settings.max_queue_images, timeout_s=settings.request_timeout_s)
    budget = Budget(max_bytes=settings.max_memory_bytes, max_seconds=settings.request_timeout_s)
    metrics = Metrics(meters, board, registry, admission, budget)
    store = StoreThreads(settings.collections_url.get_secret_value())
    app.state.service = Service(settings, registry, limits, admission, metrics, store, budget)
    for router in ROUTERS.values():
        app.include_router(router)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameter)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unforeseen)
    if settings.api_keys:
        _describe_keys(app)
    return app


class _App(FastAPI):
    """FastAPI behind what every request passes first."""

    def build_middleware_stack(self) -> ASGIApp:
        """Counting -> CORS -> keys -> FastAPI's own middleware and routes."""
        settings = self.state.service.settings
        app = super().build_middleware_stack()
        if settings.api_keys:
            app = KeyGate(app, keys=[key.get_secret_value() for key in settings.api_keys])
        if settings.cors_origins:  # outermost: a browser asks for permission without a key
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=["Authorization", "X-API-Key", "Accept", "Content-Type", "X-Metadata", "X-Request-Id"],
                expose_headers=["X-Model", "X-Resize", "X-Sigma", "X-Seed", "X-Request-Id", "Retry-After"],
            )
        service = self.state.service
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


async def _watch(registry: Registry, loading: asyncio.Task[None], interval_s: float) -> None:
    await loading
    await registry.watch(interval_s)


async def _share(metrics: Metrics) -> None:
    while True:
        try:
            await metrics.share()
        except OSError as error:  # counting must not end the service
            log.warning("the counters of this worker cannot be shared: %s", error)
        await asyncio.sleep(PERIOD_S)


def _describe_keys(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = add_security(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  for the type checker: Starlette calls by class
    return problem_response(error)


async def _on_invalid_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  for the type checker: Starlette calls by class
    problems = error.errors()
    sentences = []
    for problem in problems[:_MOST_SENTENCES]:
        where = " ".join(shown(part) if i else str(part) for i, part in enumerate(problem["loc"]))
        sentences.append(f"{where}: {problem['msg']}, found {shown(problem.get('input'))}")
    if len(problems) > _MOST_SENTENCES:
        sentences.append(f"and {len(problems) - _MOST_SENTENCES} more")
    return problem_response(InvalidParameter("; ".join(sentences)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for the type checker: Starlette calls by class
    path, headers = shown(request.url.path), dict(error.headers or {})
    match error.status_code:
        case 404:
            return problem_response(RouteNotFound(f"no endpoint {path}; GET /docs lists all of them"))
        case 405:
            allowed = headers.get("Allow", "")
            return problem_response(
                MethodNotAllowed(f"{request.method} does not work on {path}; use {allowed}", headers=headers)
            )
        case 400:
            return problem_response(MalformedBody(str(error.detail), headers=headers))
        case _:
            return await _on_unforeseen(request, error)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)  # nobody is there to read it


async def _on_unforeseen(request: Request, error: Exception) -> Response:
    found = request_id(request.scope)
    route = getattr(request.scope.get("route"), "path", request.url.path)
    extra = {"request_id": found}
    log.error("request %s: %s %s failed", found, request.method, route, exc_info=error, extra=extra)
    return problem_response(
        InternalError(f"something went wrong on our side; the log has it under request id {found}", extra=dict(extra))
    )
