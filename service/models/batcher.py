"""Runs the jobs of one graph: what has queued while the last batch ran goes together, and nobody is waited for."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import NonFiniteResult, RequestError
from service.images.tiles import UNTILED_PIXELS
from service.telemetry.counters import GraphMeter, Meters, Origin, Spent

Array = NDArray[np.float32]
Inputs = tuple[Array, ...]
Outputs = tuple[Array, ...]
Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")

_QUICK_S = 0.001


class Job(Protocol[Answer_co]):
    """One image, array or latent of a request: bytes to rows, and the rows' results to an answer."""

    @property
    def is_small(self) -> bool:
        """Whether it surely takes no longer than other small ones, judged by its size alone."""

    def prepare(self) -> Array | Inputs:
        """The graph's input, (n, ...), or its inputs, all of n rows. Decoding happens here, in the worker thread."""

    def finish(self, outputs: Outputs) -> Answer_co:
        """The answer, made from this job's n rows of every output. Encoding happens here, in the same thread."""


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
        self._cell_pixels = cell**2
        self._name = name
        self._meter = meter or Meters().graph(name, 0, "")
        # Any: jobs of every kind of answer share the queue; `submit` gives each caller its own type back.
        self._queue: deque[tuple[Job[Any], asyncio.Future[Any], Origin]] = deque()
        self._is_running = False
        self._small_job_s = math.inf  # CPU seconds of each job, when last a batch of small ones ran
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def submit(self, jobs: Sequence[Job[T]]) -> list[T | RequestError]:
        """Each job's answer or its error, in order. Cancelling drops the jobs that have not started.

        Raises:
            Exception: Whatever unforeseen a job raised.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[T | RequestError]] = [loop.create_future() for _ in jobs]
        self._queue.extend(zip(jobs, futures, repeat(self._meter.came())))
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
        jobs: list[Job[Any]] = []
        futures: list[asyncio.Future[Any]] = []
        origins: list[Origin] = []
        while self._queue and len(jobs) < self._max_batch:
            job, future, origin = self._queue.popleft()
            if not future.done():  # done: its request was cancelled
                jobs.append(job)
                futures.append(future)
                origins.append(origin)
        self._is_running = bool(jobs)
        if not jobs:
            return
        self._meter.waited(origins)
        if len(jobs) == 1 and jobs[0].is_small and self._small_job_s <= _QUICK_S:
            self._hand_out(futures, *self._work(jobs), origins)
            loop.call_soon(self._start, loop)
            return
        batch = self._thread.submit(self._work, jobs)
        may_share = self._max_batch_pixels >= 2 * UNTILED_PIXELS and not all(job.is_small for job in jobs)

        def hand_out(batch: ThreadFuture[tuple[list[object], Spent]]) -> None:
            self._hand_out(futures, *batch.result(), origins)
            if may_share:
                loop.call_soon(self._start, loop)  # after those who have just been answered
            else:
                self._start(loop)

        def back_to_loop(batch: ThreadFuture[tuple[list[object], Spent]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for these answers any more
                loop.call_soon_threadsafe(hand_out, batch)

        batch.add_done_callback(back_to_loop)

    def _hand_out(
        self,
        futures: list[asyncio.Future[Any]],
        results: list[object],
        spent: Spent,
        origins: list[Origin],
    ) -> None:
        _hand_out(futures, results)
        self._meter.record(spent, origins)

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
        started = time.perf_counter()
        outputs = self._run(*inputs)
        spent.runs.append((len(inputs[0]), time.perf_counter() - started))
        return outputs


def _hand_out(futures: list[asyncio.Future[Any]], results: list[object]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # its request was cancelled meanwhile
            continue
        if isinstance(result, Exception) and not isinstance(result, RequestError):
            future.set_exception(result)
        else:
            future.set_result(result)


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
