"""The page `/metrics`: counters of all workers and gauges of live models, in the formats of Prometheus."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, openmetrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.answer_cache import AnswerCache
from service.api.shared_call import SharedCall
from service.http.admission import Admission
from service.http.budget import Budget
from service.models.registry import Registry
from service.tasks.anomaly.drift import drift, drift_by_chance
from service.telemetry.counters import FAMILIES, Family, Key, Meters, State
from service.telemetry.multiprocess import SharedCounters

T = TypeVar("T")

PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# With fewer scores, chance alone exceeds a drift worth reporting: 1.36 / sqrt(100) = 0.14 (see `drift_by_chance`).
LEAST_SCORES = 100
_VERSION = ("model", "version")


@dataclass(frozen=True)
class Metrics:
    """Builds the page of metrics. One per worker.

    Args:
        meters: Counters of this worker.
        shared: Counters of the other workers.
        registry: Registry of live models.
        admission: Admission control, for the length of the queue.
        budget: Budget of bytes and time, for the amount in use.
        answers: Cache of answers.
    """

    meters: Meters
    shared: SharedCounters
    registry: Registry
    admission: Admission
    budget: Budget
    answers: AnswerCache
    # A thread of its own: a scrape takes milliseconds, so it must not block the event loop nor wait for pictures.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="metrics"))
    _pages: dict[bool, SharedCall[bytes]] = field(default_factory=dict)

    async def share(self) -> State:
        """Share the counts of this worker, and return those of all workers."""
        live = [model.label for model in self.registry.serving]
        state = self.meters.state(self._gauges(), live)
        return state if self.shared.directory is None else await self._in_thread(lambda: self.shared.share(state))

    async def page(self, *, is_openmetrics: bool) -> bytes:
        """Return the page, in Prometheus' own form or as OpenMetrics. Scrapes of the same time share one."""
        if is_openmetrics not in self._pages:
            self._pages[is_openmetrics] = SharedCall(partial(self._write_page, is_openmetrics=is_openmetrics))
        return await self._pages[is_openmetrics].result()

    async def _write_page(self, *, is_openmetrics: bool) -> bytes:
        collectors = CollectorRegistry()
        collectors.register(_Collected(await self.share(), self.registry))
        write = partial(openmetrics.exposition.generate_latest, version="1.0.0") if is_openmetrics else generate_latest
        content: bytes = await self._in_thread(partial(write, collectors))
        return content

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _gauges(self) -> dict[Key, float]:
        gauges: dict[Key, float] = {
            ("hourglass_queue_images",): self.admission.images,
            ("hourglass_queue_limit_images",): self.admission.max_images,
            ("hourglass_held_bytes",): self.budget.total.bytes,
            ("hourglass_held_limit_bytes",): self.budget.limit.bytes,
            ("hourglass_expected_seconds",): self.budget.total.seconds,
            ("hourglass_cache_bytes",): self.answers.bytes,
        }
        for metric in ProcessCollector(registry=None).collect():
            for sample in metric.samples:
                gauges[metric.name, str(self.shared.place)] = sample.value
        return gauges


class _Collected(Collector):
    """One scrape, for prometheus_client."""

    def __init__(self, state: State, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            yield _metric(name, family, self._state)
        yield from _live(self._registry, self._state.scores)


def _metric(name: str, family: Family, state: State) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
        for (_, *labels), (counts, total) in _of(name, state.histograms):
            if not any(counts):  # graphs that nobody has asked yet, of every model, would fill the page
                continue
            bounds = [str(bound) for bound in family.bounds] + ["+Inf"]
            sums = np.cumsum(counts).tolist()
            histogram.add_metric(labels, list(zip(bounds, sums, strict=True)), sum_value=total)
        return histogram
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = make(name, family.help, labels=family.labels)
    for (_, *labels), value in _of(name, state.values):
        metric.add_metric(labels, value)
    return metric


def _of(name: str, values: Mapping[Key, T]) -> Iterable[tuple[Key, T]]:
    return sorted((key, value) for key, value in values.items() if key[0] == name)


def _live(registry: Registry, scores: Mapping[str, Sequence[float]]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "hourglass_model_info", "1 for every model version that answers.", labels=(*_VERSION, "provider")
    )
    drifts = GaugeMetricFamily(
        "hourglass_anomaly_drift",
        "Kolmogorov-Smirnov distance of the latest scores' p-values from uniform: 0 as calibrated, 1 all different.",
        labels=_VERSION,
    )
    chances = GaugeMetricFamily(
        "hourglass_anomaly_drift_chance",
        "What the drift stays below in 95 of 100 cases where nothing has changed.",
        labels=_VERSION,
    )
    used = GaugeMetricFamily("hourglass_anomaly_drift_scores", "How many scores that is about.", labels=_VERSION)
    named = GaugeMetricFamily(
        "hourglass_alias_info",
        "1 for every alias, with the versions that it names.",
        labels=("model", "alias", "version", "candidate", "shadow"),
    )
    for aliases in registry.aliases.by_model.values() if registry.aliases else ():
        for alias in aliases.values():
            versions = (str(v or "") for v in (alias.version, alias.candidate, alias.shadow))
            named.add_metric([alias.model, alias.name, *versions], 1)
    for model in registry.serving:
        labels = [model.manifest.name, str(model.manifest.version)]
        info.add_metric([*labels, registry.provider.name], 1)
        recent, calibration = scores.get(model.label, ()), model.manifest.anomaly
        if calibration is not None and len(recent) >= LEAST_SCORES:
            drifts.add_metric(labels, drift(recent, calibration.scores))
            chances.add_metric(labels, drift_by_chance(len(recent), len(calibration.scores)))
            used.add_metric(labels, len(recent))
    yield from (info, named, drifts, chances, used)
    yield GaugeMetricFamily(
        "hourglass_rejected_versions",
        "Versions on disk that do not answer; /health/ready says why.",
        value=len(registry.snapshot.rejected),
    )
