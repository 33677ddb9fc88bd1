"""OpenTelemetry spans for what a request goes through in its batch. Off unless the standard variables turn it on.

POST /denoise                    FastAPI's own span, a child of the caller's `traceparent`
├── queue                        from being read to the start of its batch
├── decode, run, encode          of the whole batch, so of every file in it
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
    """Return whether the standard variables name a collector, and do not turn the exporter or all of it off.

    Raises:
        TracingUnavailable: They do, and what sends spans there is not installed.
    """
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if is_off or not any(environ.get(name) for name in _ENDPOINTS):
        return False
    try:
        importlib.import_module(_EXPORTER)  # which FastAPI will use; only here, for it takes its time
    except ImportError as error:
        raise TracingUnavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT names a collector, but nothing that sends spans is installed: "
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
            origins: When each file came, by `perf_counter`, and where its request is in a trace.
            started_at: Start of the batch, by `perf_counter`.
            stages: Seconds of each stage, one after the other.
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
