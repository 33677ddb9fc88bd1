"""Runs the jobs of one graph: what has queued while the last batch ran goes together, and nobody is waited for."""

import asyncio
import contextlib
import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from service.deadline import due
from service.errors import NonFiniteResult, RequestError
from service.images.tiles import UNTILED_PIXELS
from service.models.session import Floats
from service.telemetry.counters import GraphMeter, Meters, Origin, Spent

Inputs = tuple[Floats, ...]
Outputs = tuple[Floats, ...]
Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")

_QUICK_S = 0.001
_DEAR_S = 0.25  # of CPU time: longer work goes alone
_FORGETTING = 0.9  # of earlier runs, at every one that is timed
_ALWAYS_TIMED, _TIMED_EVERY = (
    65_536,
    16,
)  # numbers; of runs on fewer, one in so many: a look at the clock is a system call
_FIRST_GUESS_S = 1e-6  # for a number of the input, before anything has run


class Job(Protocol[Answer_co]):
    """One image, array or latent of a request: bytes to rows, and the rows' results to an answer."""

    @property
    def is_small(self) -> bool:
        """Whether it surely takes no longer than other small ones, judged by its size alone."""

    def prepare(self) -> Floats | Inputs:
        """The graph's input, (n, ...), or its inputs, all of n rows. Decoding happens here, in the worker thread."""

    def finish(self, outputs: Outputs) -> Answer_co:
        """The answer, made from this job's n rows of every output. Encoding happens here, in the same thread."""


class _Queued(NamedTuple):
    """A job that waits. Any: jobs of every kind of answer share the queue; `submit` gives each caller its type back."""

    job: Job[Any]
    future: asyncio.Future[Any]
    origin: Origin


class Batcher:
    """One graph's queue and its one worker thread.

    A batch is decode + run + encode in one hop to the thread, so the event loop stays free and a request costs one
    wake-up. A small job that has nobody beside it runs in the event loop itself, if jobs like it take a millisecond at
    most: the hop would cost more than it frees. Jobs of one shape share an inference of at most `max_batch` images;
    each gets back its own rows, or its own error. The thread ends when the last reference to the batcher goes: a
    replaced model finishes what it has.

    Tiles of a large picture come one after another, each when the last one is done. Where an inference has room for
    several, those who have just been answered may send their next one before the batch is closed, so that tiles of
    several pictures go together; where it has not, they take turns.

    Args:
        run: The graph.
        max_batch: Most images in one inference.
        max_pixels: About how many numbers are held decoded at a time.
        max_batch_pixels: Most pixels (height x width) in one inference of several images: what a network makes of a
            pixel on its way takes a hundred times its memory, and a megapixel fills a CPU core.
        cell: Pixels a side of what the first input has one place for: 8 where it is a grid of symbols.
        name: Of the graph, in messages and of the thread: "digits/2 denoise".
        meter: Is told what every batch cost; nobody is if left out.
    """

    def __init__(
        self,
        run: Callable[..., Outputs],
        *,
        max_batch: int,
        max_pixels: int,
        max_batch_pixels: int = UNTILED_PIXELS,
        cell: int = 1,
        name: str,
        meter: GraphMeter | None = None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        self._max_batch_pixels = max_batch_pixels
        self._may_share = max_batch_pixels >= 2 * UNTILED_PIXELS
        self._cell_pixels = cell**2
        self._name = name
        self._meter = meter or Meters().graph(name, 0, "")
        self._queue: list[tuple[float, int, _Queued]] = []  # a heap: when due, and what came first of what is due alike
        self._submitted = 0
        self._runs = 0
        self._ran_numbers, self._ran_s = 1.0, _FIRST_GUESS_S  # of late; what a number costs is their quotient
        self._is_running = False
        self._small_job_s = math.inf  # CPU seconds of each job, when last a batch of small ones ran
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def expected_s(self, numbers: int) -> float:
        """CPU time that so many numbers of input will take, as the latest runs did."""
        return numbers * self._ran_s / self._ran_numbers

    async def submit(self, jobs: Sequence[Job[T]]) -> list[T | RequestError]:
        """Each job's answer or its error, in order. Cancelling drops the jobs that have not started.

        Those whose request is due first go first: a small picture passes a large one that came before it, but none for
        ever.

        Raises:
            Exception: Whatever unforeseen a job raised.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[T | RequestError]] = [loop.create_future() for _ in jobs]
        origin, moment = self._meter.came(), max(due(), loop.time())
        for job, future in zip(jobs, futures, strict=True):
            self._submitted += 1
            heapq.heappush(self._queue, (moment, self._submitted, _Queued(job, future, origin)))
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._start, loop)  # after the other requests that have just come in
        if len(futures) == 1:
            return [await futures[0]]
        return list(await asyncio.gather(*futures))

    async def answer(self, job: Job[T]) -> T:
        """One job's answer.

        Raises:
            RequestError: What is wrong with the job.
            Exception: Whatever unforeseen it raised.
        """
        (outcome,) = await self.submit([job])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what waits, in this thread or in the batcher's, and start again after it."""
        batch = self._take_batch(loop.time())
        self._is_running = bool(batch)
        if not batch:
            return
        self._meter.waited([queued.origin for queued in batch])
        if len(batch) == 1 and batch[0].job.is_small and self._small_job_s <= _QUICK_S:
            self._hand_out(batch, *self._work([batch[0].job]))
            loop.call_soon(self._start, loop)
        else:
            self._run_in_thread(batch, loop)

    def _take_batch(self, now: float) -> list["_Queued"]:
        """What is due first; of long work one job, as what comes meanwhile need not wait for several."""
        batch: list[_Queued] = []
        while self._queue and len(batch) < self._max_batch:
            moment, _, queued = heapq.heappop(self._queue)
            if queued.future.done():  # its request was cancelled
                continue
            batch.append(queued)
            if moment > now + _DEAR_S and not self._may_share:
                break
        return batch

    def _run_in_thread(self, batch: list["_Queued"], loop: asyncio.AbstractEventLoop) -> None:
        jobs = [queued.job for queued in batch]
        may_share = self._may_share and not all(job.is_small for job in jobs)

        def hand_out(done: ThreadFuture[tuple[list[object], Spent]]) -> None:
            self._hand_out(batch, *done.result())
            if may_share:
                loop.call_soon(self._start, loop)  # after those who have just been answered
            else:
                self._start(loop)

        def back_to_loop(done: ThreadFuture[tuple[list[object], Spent]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for these answers any more
                loop.call_soon_threadsafe(hand_out, done)

        self._thread.submit(self._work, jobs).add_done_callback(back_to_loop)

    def _hand_out(self, batch: list["_Queued"], results: list[object], spent: Spent) -> None:
        for queued, result in zip(batch, results, strict=True):
            if queued.future.done():  # its request was cancelled meanwhile
                continue
            if isinstance(result, Exception) and not isinstance(result, RequestError):
                queued.future.set_exception(result)
            else:
                queued.future.set_result(result)
        self._meter.record(spent, [queued.origin for queued in batch])

    def _work(self, jobs: list[Job[Any]]) -> tuple[list[object], Spent]:
        started = time.thread_time()
        results, spent = self._results(jobs)
        if all(job.is_small for job in jobs):
            self._small_job_s = (time.thread_time() - started) / len(jobs)
        return results, spent

    def _results(self, jobs: list[Job[Any]]) -> tuple[list[object], Spent]:
        results: list[object] = [None] * len(jobs)
        ready: list[tuple[int, Inputs]] = []
        since = time.perf_counter()
        spent = Spent(started_at=since)
        for i, job in enumerate(jobs):
            try:
                made = job.prepare()
                ready.append((i, made if isinstance(made, tuple) else (made,)))
            except Exception as error:  # noqa: BLE001  one request's failure is not another's
                results[i] = error
            if sum(x[0].size for _, x in ready) >= self._max_pixels:  # decoded images must not pile up
                spent.decode_s += time.perf_counter() - since
                self._infer(jobs, ready, results, spent)
                ready, since = [], time.perf_counter()
        spent.decode_s += time.perf_counter() - since
        self._infer(jobs, ready, results, spent)
        spent.failed = sum(isinstance(result, Exception) for result in results)
        return results, spent

    def _infer(
        self, jobs: list[Job[Any]], ready: list[tuple[int, Inputs]], results: list[object], spent: Spent
    ) -> None:
        for group in _groups(ready, self._max_batch):
            try:
                columns = zip(*(inputs for _, inputs in group), strict=True)
                together = tuple(map(np.concatenate, columns)) if len(group) > 1 else group[0][1]
                outputs = self._run_in_chunks(together, spent)
            except Exception as error:  # noqa: BLE001  the batch failed, the service has not
                for i, _ in group:
                    results[i] = error
                continue
            since = time.perf_counter()
            if self._meter.has_scores:
                spent.scores += outputs[0].tolist()
            start, is_finite = 0, all_finite(outputs)  # once for all: rows are looked at only where something is wrong
            for i, (x, *_) in group:
                rows = tuple(output[start : start + len(x)] for output in outputs)
                start += len(x)
                try:
                    if not is_finite and not all_finite(rows):
                        raise NonFiniteResult(
                            f"{self._name} answered this input with NaN or infinity; "
                            "send images or latents like those it was trained on"
                        )
                    results[i] = jobs[i].finish(rows)
                except Exception as error:  # noqa: BLE001  one request's failure is not another's
                    results[i] = error
            spent.encode_s += time.perf_counter() - since

    def _run_in_chunks(self, inputs: Inputs, spent: Spent) -> Outputs:
        x = inputs[0]
        pixels = math.prod(x.shape[2:]) * self._cell_pixels
        size = max(1, min(self._max_batch, self._max_batch_pixels // pixels))  # images in one inference
        if len(x) <= size:
            return self._run_once(inputs, spent)
        starts = range(0, len(x), size)
        chunks = [self._run_once(tuple(rows[i : i + size] for rows in inputs), spent) for i in starts]
        return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))

    def _run_once(self, inputs: Inputs, spent: Spent) -> Outputs:
        size, self._runs = inputs[0].size, self._runs + 1
        is_timed = size >= _ALWAYS_TIMED or self._runs % _TIMED_EVERY == 1
        started, cpu_started = time.perf_counter(), time.thread_time() if is_timed else 0.0
        outputs = self._run(*inputs)
        spent.runs.append((len(inputs[0]), time.perf_counter() - started))
        if is_timed:  # in CPU seconds: others who have the core cost nothing
            self._ran_numbers = _FORGETTING * self._ran_numbers + size
            self._ran_s = _FORGETTING * self._ran_s + time.thread_time() - cpu_started
        return outputs


def all_finite(outputs: Outputs) -> bool:
    """Whether all values are numbers: not NaN, not infinite."""
    # NaN would be the least and the greatest of all, and no array of booleans as large as the output is made.
    return all(math.isfinite(output.min()) and math.isfinite(output.max()) for output in outputs if output.size)


def _groups(ready: list[tuple[int, Inputs]], max_batch: int) -> Iterator[list[tuple[int, Inputs]]]:
    """Jobs of one shape, in groups of at most `max_batch` rows; a job with more rows than that is its own group."""
    by_shape: dict[tuple[int, ...], list[tuple[int, Inputs]]] = {}
    for i, inputs in ready:
        x = inputs[0]
        group = by_shape.setdefault(x.shape[1:], [])
        if group and sum(len(rows[0]) for _, rows in group) + len(x) > max_batch:
            yield group
            group = by_shape[x.shape[1:]] = []
        group.append((i, inputs))
    yield from by_shape.values()
