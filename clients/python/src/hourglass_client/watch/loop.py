"""The loop of `hourglass watch`: files in, verdicts into the history, and from there to every sink.

    source -> [ N workers: read, ask, write into the history ] -> history -> [ one task per sink, in order ]

The history is the only queue. A worker waits while the slowest sink is far behind, so nothing piles up in memory.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hourglass_client.aio import AsyncHourglass
from hourglass_client.answers import Verdict
from hourglass_client.errors import BadRequest, ClientError, TooLarge
from hourglass_client.folders import write_whole
from hourglass_client.watch.history import History
from hourglass_client.watch.part import Part, Word
from hourglass_client.watch.sinks import Sink, Unavailable
from hourglass_client.watch.source import Arrival, Source

_MOST_BEHIND = 200  # parts that the slowest sink may have before it
_LONGEST_PAUSE_S = 10.0
_GOODBYE_S = 5.0  # for what was under way when a signal came


@dataclass
class Rates:
    """Counts since the start, and the last latencies."""

    started: float = field(default_factory=time.time)
    count_by_word: dict[Word, int] = field(default_factory=lambda: {"normal": 0, "anomalous": 0, "failed": 0})
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def note(self, part: Part) -> None:
        """Count a part that all sinks have accepted. Its latency is from the last change of the file until now."""
        self.count_by_word[part.word] += 1
        written = part.stamp.mtime_ns / 1e9
        if written > self.started:  # what was there before has waited for us to start
            self.latencies_s.append(time.time() - written)

    def __str__(self) -> str:
        total = sum(self.count_by_word.values())
        counts = self.count_by_word
        said = f"{total} judged, {counts['anomalous']} anomalous, {counts['failed']} failed"
        said += f", {total / max(time.time() - self.started, 1e-9):.3g}/s"
        if self.latencies_s:
            ordered = sorted(self.latencies_s)
            p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
            said += f", from file written to verdict p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
        return said


class Watch:
    """The loop over one source.

    Args:
        hourglass: Client of the service.
        source: Source of the images.
        history: History of parts and positions of sinks.
        sinks: Receivers of the verdicts.
        query: Arguments of `anomaly`: model, version, max_fpr and ignore.
        heatmaps: Folder for heat maps of anomalous images, or None.
        at_once: Concurrent requests.
        patience_s: Seconds without a change after which an invalid image has failed.
        say: Prints a message.
    """

    def __init__(
        self,
        hourglass: AsyncHourglass,
        source: Source,
        history: History,
        sinks: Sequence[Sink],
        *,
        query: dict[str, Any],  # Any: arguments of `AsyncHourglass.anomaly`
        heatmaps: Path | None,
        at_once: int,
        patience_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._hourglass, self._source, self._history, self._sinks = hourglass, source, history, sinks
        self._query, self._heatmaps, self._at_once = query, heatmaps, at_once
        self._patience_s, self._say = patience_s, say
        self._news = {sink.name: asyncio.Event() for sink in sinks}
        self._unavailable: set[str] = set()
        self._caught_up = asyncio.Event()
        self._doubted: dict[Arrival, float] = {}  # no images so far, and since when
        self.rates = Rates()

    async def run(self, stop: asyncio.Event, report_s: float) -> None:
        """Judge arriving images until the source ends or `stop` is set, then finish those in progress."""
        arrived: asyncio.Queue[Arrival] = asyncio.Queue(maxsize=1)
        reading = [asyncio.create_task(self._read(arrived))]
        judging = [asyncio.create_task(self._judge(arrived)) for _ in range(self._at_once)]
        telling = [asyncio.create_task(self._tell(sink)) for sink in self._sinks]
        reporting = asyncio.create_task(self._report(report_s))
        stopped = asyncio.create_task(stop.wait())
        tasks = [*reading, *judging, *telling, reporting]
        try:
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # raises the fault that has ended it; only the source ends without one
            for task in [*reading, *judging]:
                task.cancel()  # what was not written down will be judged by the next run
            await asyncio.wait([asyncio.create_task(self._drained())], timeout=_GOODBYE_S)
        finally:
            for task in [stopped, *tasks]:
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            for sink in self._sinks:
                await sink.close()

    async def _read(self, arrived: asyncio.Queue[Arrival]) -> None:
        async for arrival in self._source.arrivals():
            while self._history.backlog() >= _MOST_BEHIND:
                self._caught_up.clear()
                await self._caught_up.wait()
            await arrived.put(arrival)

    async def _judge(self, arrived: asyncio.Queue[Arrival]) -> None:
        while True:
            arrival = await arrived.get()
            part = await self._part(arrival)
            if part is None:
                self._source.again(arrival.name)
                continue
            part = self._history.add(part)
            self._source.done(arrival.name)
            for news in self._news.values():
                news.set()
            if not self._sinks:
                self.rates.note(part)

    async def _part(self, arrival: Arrival) -> Part | None:
        """Judge an image and return its part; None if it is still being written."""
        pause_s = 0.0
        while True:
            content = await self._source.read(arrival)
            if content is None:
                return None
            try:
                verdict = await self._hourglass.anomaly(content, **self._query)
                if verdict.is_anomalous and self._heatmaps:
                    await self._draw(content, arrival.name)
                return _new(arrival, "anomalous" if verdict.is_anomalous else "normal", verdict, None)
            except (BadRequest, TooLarge) as problem:
                since = self._doubted.setdefault(arrival, time.monotonic())
                if time.monotonic() - since < self._patience_s:
                    return None  # a writer that has paused
                self._doubted = {key: value for key, value in self._doubted.items() if key.name != arrival.name}
                return _new(arrival, "failed", None, str(problem))
            except ClientError as error:  # busy, restarting, or gone: the part waits for the service
                if pause_s == 0:
                    self._say(f"{error}; waiting")
                pause_s = min(_LONGEST_PAUSE_S, max(0.5, 2 * pause_s))
                await asyncio.sleep(pause_s)

    async def _draw(self, content: bytes, name: str) -> None:
        picture = await self._hourglass.heatmap(content, **self._query)
        assert self._heatmaps is not None  # noqa: S101  callers have checked
        target = self._heatmaps / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, picture.content)

    async def _tell(self, sink: Sink) -> None:
        """Send every part to a sink, in order, with retries while the sink is unavailable."""
        news, pause_s = self._news[sink.name], 0.0
        while True:
            news.clear()
            for part in self._history.waiting(sink.name):
                try:
                    await sink.take(part)
                except Unavailable as error:
                    self._unavailable.add(sink.name)
                    if pause_s == 0:
                        self._say(f"{error}; waiting")
                    pause_s = min(_LONGEST_PAUSE_S, max(0.5, 2 * pause_s))
                    break
                pause_s = 0.0
                self._unavailable.discard(sink.name)
                before = self._history.backlog()
                self._history.taken(sink.name, part.id)
                if sink is self._sinks[-1]:
                    self.rates.note(part)
                if before >= _MOST_BEHIND > self._history.backlog():
                    self._caught_up.set()
            else:
                if not self._history.waiting(sink.name, 1):
                    await news.wait()
                continue
            await asyncio.sleep(pause_s)

    async def _drained(self) -> None:
        """Wait for the sinks to catch up, except unavailable ones, which resume in the next run."""
        names = {sink.name for sink in self._sinks}
        while any(self._history.waiting(name, 1) for name in names - self._unavailable):
            await asyncio.sleep(0.02)

    async def _report(self, report_s: float) -> None:
        before = 0
        while True:
            await asyncio.sleep(report_s)
            total = sum(self.rates.count_by_word.values())
            if total != before:
                self._say(f"{self.rates}; {self._source.waiting} waiting, sinks {self._history.backlog()} behind")
            before = total


def _new(arrival: Arrival, word: Word, verdict: Verdict | None, problem: str | None) -> Part:
    seen = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Part(0, arrival.name, arrival.stamp, seen, word, verdict, problem)
