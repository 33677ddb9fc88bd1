"""What the service counts about itself, in plain Python: an increment costs a tenth of a microsecond, nothing waits.

    Meters  ->  state() of this worker  ->  metrics.py: all workers' states together, as Prometheus reads them

Only the event loop writes here. What a batch costs is measured in its thread and recorded when it comes back.
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
# Every graph has five histograms, and each bucket is a line of 80 bytes: no finer than somebody looks.
_FINE_S = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_DECADES_S = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0)
# Scores of any model: powers of ten and the square roots between them.
_SCORES = tuple(float(f"{10 ** (half / 2):.3g}") for half in range(-12, 7))
_PSNR_DB = (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 60.0)

RECENT_SCORES = 500

OTHER = "other"  # label values are bounded: what strangers make up counts as one
MAX_LABEL_SETS = 48  # of a family whose labels are names that people give: further ones count as `other`


@dataclass(frozen=True)
class Family:
    """A metric: its kind, what it says, its labels, and for a histogram the upper bounds of its buckets."""

    kind: Kind
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_GRAPH = ("model", "task")
_ALIAS = ("model", "alias")
FAMILIES: dict[str, Family] = {
    "hourglass_requests": Family(
        "counter", "Requests by route, method and status; 499: the client left.", ("route", "method", "status")
    ),
    "hourglass_request_seconds": Family(
        "histogram", "From the end of a request's headers to the end of its answer, seconds.", ("route",), _WIDE_S
    ),
    "hourglass_failures": Family("counter", "Problems by their code; one per file where several were sent.", ("code",)),
    "hourglass_images": Family("counter", "Images, or latents, that a graph has run on.", _GRAPH),
    "hourglass_failed_files": Family("counter", "Files whose answer was a problem, after the queue.", _GRAPH),
    "hourglass_queue_seconds": Family("histogram", "What a file waited for its batch, seconds.", _GRAPH, _FINE_S),
    "hourglass_decode_seconds": Family("histogram", "Reading the files of a batch, seconds.", _GRAPH, _DECADES_S),
    "hourglass_compute_seconds": Family("histogram", "One inference, seconds.", _GRAPH, _FINE_S),
    "hourglass_encode_seconds": Family("histogram", "Making the answers of a batch, seconds.", _GRAPH, _DECADES_S),
    "hourglass_batch_images": Family("histogram", "Images in one inference.", _GRAPH, _BATCH),
    "hourglass_anomaly_score": Family("histogram", "Anomaly scores returned.", ("model",), _SCORES),
    "hourglass_alias_requests": Family(
        "counter", "Requests to an alias that a candidate could answer, by who did.", (*_ALIAS, "role")
    ),
    "hourglass_shadow_requests": Family(
        "counter", "Requests that a shadow was to see: compared, dropped, failed.", (*_ALIAS, "outcome")
    ),
    "hourglass_shadow_verdicts": Family(
        "counter", "Images by their verdict, and that of the shadow.", (*_ALIAS, "verdict", "shadow")
    ),
    "hourglass_shadow_score_difference": Family(
        "histogram", "Distance between the score and that of the shadow.", _ALIAS, _SCORES
    ),
    "hourglass_shadow_psnr_db": Family(
        "histogram", "PSNR between the answer and that of the shadow, dB; 100 where they are equal.", _ALIAS, _PSNR_DB
    ),
    "hourglass_jobs": Family("counter", "Jobs that left a worker: done, failed, cancelled, given back.", ("outcome",)),
    "hourglass_queue_images": Family("gauge", "Images taken and not yet answered.", ()),
    "hourglass_queue_limit_images": Family("gauge", "The most there may be of them: max_queue_images per worker.", ()),
    "hourglass_held_bytes": Family("gauge", "Bodies, decoded pictures and answers that are not sent yet.", ()),
    "hourglass_held_limit_bytes": Family("gauge", "The most they may take: max_memory_bytes per worker.", ()),
    "hourglass_expected_seconds": Family("gauge", "CPU time that the requests inside are expected to need.", ()),
    "hourglass_cache_requests": Family(
        "counter", "Requests with one file, by whether an answer was kept.", ("result",)
    ),
    "hourglass_cache_bytes": Family("gauge", "Answers that are kept for the next such request, bytes.", ()),
    "process_cpu_seconds": Family("counter", "CPU time of a worker, user and system, seconds.", ("worker",)),
    "process_resident_memory_bytes": Family("gauge", "Memory of a worker, bytes.", ("worker",)),
    "process_virtual_memory_bytes": Family("gauge", "Address space of a worker, bytes.", ("worker",)),
    "process_start_time_seconds": Family("gauge", "When a worker was started, seconds since 1970.", ("worker",)),
    "process_open_fds": Family("gauge", "Open files and connections of a worker.", ("worker",)),
    "process_max_fds": Family("gauge", "The most there may be of them.", ("worker",)),
}

# (family, *values of its labels)
Key = tuple[str, ...]


@dataclass
class Histogram:
    """How many values fell into each bucket, the last one without a bound, and their sum."""

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
    """Everything that one worker, or all of them, have counted. Made of JSON's types, but for the keys.

    Attributes:
        values: Counters and gauges.
        histograms: Counts of each bucket, and the sum.
        scores: The latest anomaly scores by "model/version".
    """

    values: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, tuple[list[int], float]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)


# When a file came, by `perf_counter`, and where its request is in a trace.
Origin = tuple[float, Context | None]


@dataclass
class Spent:
    """What one batch cost in its thread, seconds; its start is by `perf_counter`.

    Attributes:
        runs: Images and seconds of each inference.
        failed: How many files got a problem.
    """

    started_at: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    runs: list[tuple[int, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    failed: int = 0


class GraphMeter:
    """The figures of one model's task. Versions of a model count together; their scores are kept apart."""

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
        """Note that a file has arrived, now and in its trace."""
        return time.perf_counter(), None if self._tracer is None else self._tracer.here()

    def waited(self, origins: Sequence[Origin]) -> None:
        """Count the files of a batch that have left the queue."""
        now = time.perf_counter()
        for came_at, _ in origins:
            self._queue.observe(now - came_at)

    def record(self, spent: Spent, origins: Sequence[Origin]) -> None:
        """Count a batch that is done; its files came from `origins`."""
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
        before: What an earlier worker in this one's place had counted: counters never fall.
        tracer: Makes spans of batches; None makes none.
    """

    def __init__(self, before: State | None = None, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        before = before or State()
        self.values: Counter[Key] = Counter()
        self.histograms: dict[Key, Histogram] = {}
        self.scores: dict[str, deque[float]] = {}
        self._answers: dict[tuple[str, str, int], Histogram] = {}  # both families of requests in one
        self._label_sets: defaultdict[str, set[Key]] = defaultdict(set)
        for key, value in before.values.items():
            family = FAMILIES.get(key[0])
            if family is not None and family.kind == "counter" and "worker" not in family.labels:
                self.values[self.key(*key)] += value  # type: ignore[assignment]  # whole numbers, as this class counts
        for key, (counts, total) in before.histograms.items():
            histogram = self.histogram(*key)
            histogram.counts, histogram.sum = list(counts), total

    def histogram(self, family: str, *labels: str) -> Histogram:
        """Return the histogram with these labels; create it on first use."""
        return self.histograms.setdefault(self.key(family, *labels), Histogram(FAMILIES[family].bounds))

    def key(self, family: str, *labels: str) -> Key:
        """Return where a family counts what has these labels: as `other`, if it has met too many of them.

        Routes, methods, statuses and codes are those of the service, and bounded by themselves.
        """
        known, key = self._label_sets[family], (family, *labels)
        if key not in known:
            if len(known) >= MAX_LABEL_SETS and FAMILIES[family].labels[:1] == ("model",):
                return (family, *(OTHER for _ in labels))
            known.add(key)
        return key

    def count(self, family: str, *labels: str) -> None:
        """Count one more with these labels."""
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
            gauges: Figures that are looked up and not counted.
            live: "model/version" of those whose scores are still of interest; the others are forgotten.
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
