"""Metrics of the service, in plain Python and without locks: an increment costs a tenth of a microsecond.

    Meters  ->  State of this worker  ->  sum of all workers (`together`)  ->  text for Prometheus (`api/prometheus.py`)

Only the event loop writes here. The cost of a batch is measured in its thread and recorded in the loop afterwards.
"""

import math
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry.context import Context

from service.telemetry.tracing import Tracer

Kind = Literal["counter", "gauge", "histogram"]

_WIDE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Every graph has five histograms, and each bucket is a line of 80 bytes, so buckets are coarse.
_FINE_S = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_DECADES_S = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0)
# Anomaly scores have a different scale for each model: powers of ten, and halfway between them.
_SCORES = tuple(float(f"{10 ** (half / 2):.3g}") for half in range(-12, 7))
_PSNR_DB = (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 60.0)

RECENT_SCORES = 500

OTHER = "other"  # label values are bounded: values that clients invent count as one
MAX_LABEL_SETS = 48  # per family with names given by users as labels; further names count as `other`


@dataclass(frozen=True)
class Family:
    """A metric: kind, help text, labels, and the upper bounds of the buckets of a histogram."""

    kind: Kind
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_GRAPH = ("model", "task")
_ALIAS = ("model", "alias")
FAMILIES: dict[str, Family] = {
    "hourglass_requests": Family(
        "counter", "Requests by route, method and status; 499: the client disconnected.", ("route", "method", "status")
    ),
    "hourglass_request_seconds": Family(
        "histogram", "Time from the end of the headers to the end of the answer, seconds.", ("route",), _WIDE_S
    ),
    "hourglass_failures": Family("counter", "Errors by code; one per file if a request has several.", ("code",)),
    "hourglass_images": Family("counter", "Images or latents that a graph has processed.", _GRAPH),
    "hourglass_failed_files": Family("counter", "Files that failed after the queue.", _GRAPH),
    "hourglass_queue_seconds": Family("histogram", "Time of a file in the queue, seconds.", _GRAPH, _FINE_S),
    "hourglass_decode_seconds": Family("histogram", "Decoding time of a batch, seconds.", _GRAPH, _DECADES_S),
    "hourglass_compute_seconds": Family("histogram", "Time of one inference, seconds.", _GRAPH, _FINE_S),
    "hourglass_encode_seconds": Family("histogram", "Encoding time of a batch, seconds.", _GRAPH, _DECADES_S),
    "hourglass_batch_images": Family("histogram", "Images in one inference.", _GRAPH, _BATCH),
    "hourglass_anomaly_score": Family("histogram", "Anomaly scores returned.", ("model",), _SCORES),
    "hourglass_alias_requests": Family(
        "counter", "Requests to an alias with a candidate, by the role that answered.", (*_ALIAS, "role")
    ),
    "hourglass_shadow_requests": Family(
        "counter", "Requests to an alias with a shadow: compared, dropped, failed.", (*_ALIAS, "outcome")
    ),
    "hourglass_shadow_verdicts": Family(
        "counter", "Images by verdict, and by verdict of the shadow.", (*_ALIAS, "verdict", "shadow")
    ),
    "hourglass_shadow_score_difference": Family(
        "histogram", "Absolute difference between the score and the shadow's.", _ALIAS, _SCORES
    ),
    "hourglass_shadow_psnr_db": Family(
        "histogram", "PSNR between the answer and the shadow's, dB; 100 if they are equal.", _ALIAS, _PSNR_DB
    ),
    "hourglass_jobs": Family("counter", "Jobs that left a worker: done, failed, cancelled, given back.", ("outcome",)),
    "hourglass_queue_images": Family("gauge", "Images admitted and not yet answered.", ()),
    "hourglass_queue_limit_images": Family("gauge", "Limit of these images: max_queue_images per worker.", ()),
    "hourglass_held_bytes": Family("gauge", "Memory of bodies, decoded images and unsent answers, bytes.", ()),
    "hourglass_held_limit_bytes": Family("gauge", "Limit of this memory: max_memory_bytes per worker, bytes.", ()),
    "hourglass_expected_seconds": Family("gauge", "CPU time that admitted requests are expected to need, seconds.", ()),
    "hourglass_cache_requests": Family(
        "counter", "Requests with one file, by result of the answer cache.", ("result",)
    ),
    "hourglass_cache_bytes": Family("gauge", "Size of the answer cache, bytes.", ()),
    "process_cpu_seconds": Family("counter", "CPU time of a worker, user and system, seconds.", ("worker",)),
    "process_resident_memory_bytes": Family("gauge", "Memory of a worker, bytes.", ("worker",)),
    "process_virtual_memory_bytes": Family("gauge", "Address space of a worker, bytes.", ("worker",)),
    "process_start_time_seconds": Family("gauge", "Start time of a worker, seconds since 1970.", ("worker",)),
    "process_open_fds": Family("gauge", "Open files and connections of a worker.", ("worker",)),
    "process_max_fds": Family("gauge", "Limit of process_open_fds.", ("worker",)),
}

# (family, *values of its labels)
Key = tuple[str, ...]


@dataclass
class Histogram:
    """Number of values in each bucket, the last one without an upper bound, and the sum of all values."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class State:
    """All metrics of one worker, or their sum over all workers. Of JSON types, except for the keys.

    Attributes:
        values: Values of counters and gauges.
        histograms: Bucket counts and sum of each histogram.
        scores: Latest anomaly scores by model label, `name/version`.
    """

    values: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, tuple[list[int], float]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)


# Arrival of a file, in seconds by `perf_counter`, and the span context of its request.
Origin = tuple[float, Context | None]


@dataclass
class Spent:
    """Cost of one batch in its thread.

    Attributes:
        started_at: Start, in seconds by `perf_counter`.
        decode_s: Decoding time, in seconds.
        encode_s: Encoding time, in seconds.
        runs: Number of images and seconds of each inference.
        scores: Anomaly scores of the images.
        failed: Number of files that failed.
    """

    started_at: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    runs: list[tuple[int, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    failed: int = 0


class GraphMeter:
    """Metrics of one task of a model. Versions of a model are counted together, except for their scores."""

    def __init__(self, meters: "Meters", model: str, version: int, task: str) -> None:
        self.has_scores = task == "anomaly"
        labels = (model, task)
        self._tracer = meters.tracer
        self._span_attributes = {"hourglass.model": model, "hourglass.task": task}
        self._images = meters.key("hourglass_images", *labels)
        self._failed = meters.key("hourglass_failed_files", *labels)
        self._values = meters.values
        self._queue, self._decode, self._compute, self._encode, self._batch = (
            meters.histogram(f"hourglass_{name}", *labels)
            for name in ("queue_seconds", "decode_seconds", "compute_seconds", "encode_seconds", "batch_images")
        )
        if self.has_scores:
            self._score = meters.histogram("hourglass_anomaly_score", model)
            self._recent = meters.scores.setdefault(f"{model}/{version}", deque(maxlen=RECENT_SCORES))

    def came(self) -> Origin:
        """Return the origin of a file that arrives now."""
        return time.perf_counter(), None if self._tracer is None else self._tracer.here()

    def waited(self, origins: Sequence[Origin]) -> None:
        """Record the queue time of the files of a batch, which starts now."""
        now = time.perf_counter()
        for came_at, _ in origins:
            self._queue.observe(now - came_at)

    def record(self, spent: Spent, origins: Sequence[Origin]) -> None:
        """Record the cost of a finished batch of files with these origins."""
        self._decode.observe(spent.decode_s)
        self._encode.observe(spent.encode_s)
        if spent.failed:
            self._values[self._failed] += spent.failed
        for images, seconds in spent.runs:
            self._values[self._images] += images
            self._batch.observe(images)
            self._compute.observe(seconds)
        if spent.scores:
            finite = [score for score in spent.scores if math.isfinite(score)]
            for score in finite:
                self._score.observe(score)
            self._recent.extend(finite)
        if self._tracer is not None:
            stages = {"decode": spent.decode_s, "run": sum(s for _, s in spent.runs), "encode": spent.encode_s}
            attributes = self._span_attributes | {"hourglass.batch_images": sum(images for images, _ in spent.runs)}
            self._tracer.batch(origins, spent.started_at, stages, attributes)


class Meters:
    """All counters of one worker.

    Args:
        before: State of the earlier worker in this place, so that counters never fall.
        tracer: Records spans of batches, if given.
    """

    def __init__(self, before: State | None = None, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        before = before or State()
        self.values: Counter[Key] = Counter()
        self.histograms: dict[Key, Histogram] = {}
        self.scores: dict[str, deque[float]] = {}
        self._answers: dict[tuple[str, str, int], Histogram] = {}  # counts and durations of requests in one
        self._label_sets: defaultdict[str, set[Key]] = defaultdict(set)
        for key, value in before.values.items():
            family = FAMILIES.get(key[0])
            if family is not None and family.kind == "counter" and "worker" not in family.labels:
                self.values[self.key(*key)] += value  # type: ignore[assignment]  # counters are integers here
        for key, (counts, total) in before.histograms.items():
            histogram = self.histogram(*key)
            histogram.counts, histogram.sum = list(counts), total

    def histogram(self, family: str, *labels: str) -> Histogram:
        """Return the histogram with these labels; create it on first use."""
        return self.histograms.setdefault(self.key(family, *labels), Histogram(FAMILIES[family].bounds))

    def key(self, family: str, *labels: str) -> Key:
        """Return the key of a metric with these labels; the labels become `other` if the family has too many.

        Routes, methods, statuses and codes come from the service, so their number is bounded.
        """
        known, key = self._label_sets[family], (family, *labels)
        if key not in known:
            if len(known) >= MAX_LABEL_SETS and FAMILIES[family].labels[:1] == ("model",):
                return (family, *(OTHER for _ in labels))
            known.add(key)
        return key

    def count(self, family: str, *labels: str) -> None:
        """Increment the counter with these labels."""
        self.values[self.key(family, *labels)] += 1

    def graph(self, model: str, version: int, task: str) -> GraphMeter:
        """Return the meter of one model and task."""
        return GraphMeter(self, model, version, task)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = (route, method, status)
        histogram = self._answers.get(key)
        if histogram is None:
            histogram = self._answers[key] = Histogram(_WIDE_S)
        histogram.observe(seconds)

    def refused(self, code: str, status: int) -> None:
        """Count a request that was refused before routing."""
        self.values["hourglass_requests", OTHER, OTHER, str(status)] += 1
        self.failed(code)

    def failed(self, code: str) -> None:
        """Count a problem of a request, or of one of its files."""
        self.values["hourglass_failures", code] += 1

    def state(self, gauges: Mapping[Key, float], live: Collection[str]) -> State:
        """Return a snapshot of all counters.

        Args:
            gauges: Current values of all gauges.
            live: Labels of the live models; scores of other models are dropped.
        """
        for label in self.scores.keys() - set(live):
            del self.scores[label]
        self._fold_answers()
        histograms = {key: (list(histogram.counts), histogram.sum) for key, histogram in self.histograms.items()}
        scores = {label: list(scores) for label, scores in self.scores.items()}
        return State({**self.values, **gauges}, histograms, scores)

    def _fold_answers(self) -> None:
        for (route, method, status), found in self._answers.items():
            self.values["hourglass_requests", route, method, str(status)] += sum(found.counts)
            total = self.histogram("hourglass_request_seconds", route)
            total.counts = [a + b for a, b in zip(total.counts, found.counts, strict=True)]
            total.sum += found.sum
        self._answers.clear()


def together(states: Iterable[State]) -> State:
    """Return the sum of several workers' states."""
    total = State()
    for state in states:
        for key, value in state.values.items():
            total.values[key] = total.values.get(key, 0.0) + value
        for key, (counts, sum_) in state.histograms.items():
            found, found_sum = total.histograms.get(key, ([0] * len(counts), 0.0))
            total.histograms[key] = ([a + b for a, b in zip(found, counts, strict=True)], found_sum + sum_)
        for label, scores in state.scores.items():
            total.scores.setdefault(label, []).extend(scores)
    return total
