"""OpenTelemetry spans of the stages of a batch. Off unless the standard variables enable it.

POST /denoise                    FastAPI's own span, a child of the caller's `traceparent`
├── queue                        from the end of its body to the start of its batch
├── decode, run, encode          of the whole batch
"""

import importlib
import time
from collections.abc import Iterable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context, get_current

from service.errors import TracingUnavailable

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the standard environment variables name a collector and do not disable tracing.

    Raises:
        TracingUnavailable: They do, but the exporter is not installed.
    """
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if is_off or not any(environ.get(name) for name in _ENDPOINTS):
        return False
    try:
        importlib.import_module(_EXPORTER)  # FastAPI uses it; imported here because it is slow to import
    except ImportError as error:
        raise TracingUnavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT names a collector, but the exporter is not installed: "
            "`pip install 'hourglass-service[tracing]'`, or unset it"
        ) from error
    return True


class Tracer:
    """Records the spans of batches."""

    def here(self) -> Context | None:
        """Return the span context of the current request; None if it is not sampled."""
        return get_current() if trace.get_current_span().is_recording() else None

    def trace_id(self) -> str | None:
        """Return the trace id of the current request, as other programs log it."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def batch(
        self,
        origins: Iterable[tuple[float, Context | None]],
        started_at: float,
        stages: Mapping[str, float],
        attributes: Mapping[str, str | int],
    ) -> None:
        """Record the spans of a finished batch.

        Args:
            origins: Arrival of each file, in seconds by `perf_counter`, and the span context of its request.
            started_at: Start of the batch, in seconds by `perf_counter`.
            stages: Duration of each stage in seconds, in order.
            attributes: Attributes of every span.
        """
        to_epoch_ns = time.time_ns() - time.perf_counter_ns()
        tracer = trace.get_tracer("hourglass")
        for came_at, context in origins:
            if context is None:
                continue
            since = came_at
            for name, seconds in {"queue": started_at - came_at, **stages}.items():
                start_ns = int(since * 1e9) + to_epoch_ns
                since += seconds
                span = tracer.start_span(name, context, start_time=start_ns, attributes=attributes)
                span.end(int(since * 1e9) + to_epoch_ns)
