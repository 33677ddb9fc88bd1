"""Spans, as a collector of OpenTelemetry receives them."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.errors import TracingUnavailable
from service.telemetry.tracing import is_wanted
from tests.service.rawclient import post
from tests.service.slowmodel import ROOT, flat_png, service_process, until
from tests.service.toymodels import publish_toy

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Keeps every span that is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.spans: list[Span] = []


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_inside(collector: Collector, tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path, "--access-log", "true", "--log-format", "json") as process:
        reply = post(process.port, "/denoise?model=toy", flat_png(4), traceparent=f"00-{TRACE}-{CALLER}-01")
        assert reply.status == 200
        until(lambda: len(collector.spans) >= 5)
        assert process.stop() == 0

    span_by_name = {span.name: span for span in collector.spans}
    root = span_by_name["POST /denoise"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, CALLER)
    stages = [span_by_name[name] for name in ("queue", "decode", "run", "encode")]
    for stage in stages:
        assert (stage.trace_id.hex(), stage.parent_span_id) == (TRACE, root.span_id)
        attributes = {a.key: a.value.string_value or a.value.int_value for a in stage.attributes}
        assert attributes == {"hourglass.model": "toy", "hourglass.task": "denoise", "hourglass.batch_images": 1}
        assert stage.end_time_unix_nano >= stage.start_time_unix_nano
    for earlier, later in pairwise(stages):
        assert earlier.end_time_unix_nano <= later.start_time_unix_nano
    assert root.start_time_unix_nano < stages[0].start_time_unix_nano
    assert stages[-1].end_time_unix_nano < root.end_time_unix_nano + 1_000_000
    assert any(f'"trace_id":"{TRACE}"' in line for line in process.lines)


def test_a_trace_that_is_not_sampled_makes_no_spans(collector: Collector, tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with service_process(tmp_path) as process:
        post(process.port, "/denoise", flat_png(4), traceparent=f"00-{TRACE}-{CALLER}-00")
        post(process.port, "/encode", flat_png(4))
        until(lambda: len(collector.spans) >= 5)
        process.stop()

    assert all(span.trace_id.hex() != TRACE for span in collector.spans)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_turn_it_on_and_off(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_without_the_extra_the_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(TracingUnavailable, match=r"pip install 'hourglass-service\[tracing\]'"):
        is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})


def test_nothing_of_the_sdk_is_loaded_while_it_is_off() -> None:
    code = "import sys, service.api.app; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"

    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert output.stdout.strip() == "[]"
