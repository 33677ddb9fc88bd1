"""Runs the jobs of one graph: what has queued while the last batch ran goes together, and nobody is waited for."""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.deadline import due
from service.errors import RequestError
from service.images.tiles import UNTILED_PIXELS
from service.models.job import Job, Outputs, Queued, is_wanted
from service.models.runner import Runner
from service.telemetry.counters import GraphMeter, Meters, Origin, Spent

T = TypeVar("T")

_QUICK_S = 0.001
_DEAR_S = 0.25  # of CPU time: longer work goes alone


class Batcher:
    """One graph's queue and its one worker thread.

    A batch is decode + run + encode in one hop to the thread, so the event loop stays free and a request costs one
    wake-up. A small job that has nobody beside it runs in the event loop itself, if jobs like it take a millisecond at
    most: the hop would cost more than it frees. Jobs of one shape share an inference of at most `max_batch` images;
    each gets back its own rows, or its own error. The thread ends when the last reference to the batcher goes: a
    replaced model finishes what it has.

    Tiles of a large picture come one after another, each when the last one is done. Those who have just been answered
    may send their next one before the next batch is closed. So tiles of several pictures go together where an inference
    has room for several; where it has not, the picture that is due first goes on.

    Args:
        run: The graph.
        stop: Ends a run of it early; nothing does if left out.
        max_batch: Most images in one inference.
        max_pixels: About how many numbers are held decoded at a time.
        max_batch_pixels: Most pixels (height x width) in one inference of several images: what a network makes of a
            pixel on its way takes a hundred times its memory, and a megapixel fills a CPU core.
        cell: Pixels a side of what the first input has one place for: 8 where it is a grid of symbols.
        name: Name of the graph, in messages and of the thread: "digits/2 denoise".
        meter: Is told what every batch cost; nobody is if left out.
    """

    def __init__(
        self,
        run: Callable[..., Outputs],
        *,
        stop: Callable[[], None] | None = None,
        max_batch: int,
        max_pixels: int,
        max_batch_pixels: int = UNTILED_PIXELS,
        cell: int = 1,
        name: str,
        meter: GraphMeter | None = None,
    ) -> None:
        self._stop = stop
        self._max_batch = max_batch
        self._may_share = max_batch_pixels >= 2 * UNTILED_PIXELS
        self._meter = meter or Meters().graph(name, 0, "")
        self._runner = Runner(
            run,
            max_batch=max_batch,
            max_pixels=max_pixels,
            max_batch_pixels=max_batch_pixels,
            cell=cell,
            name=name,
            meter=self._meter,
        )
        self._queue: list[tuple[float, int, Queued]] = []  # a heap: when due, and what came first of what is due alike
        self._submitted = 0
        self._is_running = False
        self._in_thread: list[Queued] = []  # what the thread works on
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def expected_s(self, numbers: int) -> float:
        """Estimate the CPU time for this many input values from recent runs."""
        return self._runner.expected_s(numbers)

    async def submit(self, jobs: Sequence[Job[T]]) -> list[T | RequestError]:
        """Run jobs and return the answer or error of each, in order.

        Cancelling drops the jobs that have not started, and stops the run of a graph that nobody else waits for.

        Those whose request is due first go first: a small picture passes a large one that came before it, but none for
        ever.

        Raises:
            Exception: Whatever unforeseen a job raised.
        """
        loop = asyncio.get_running_loop()
        origin, moment = self._meter.came(), max(due(), loop.time())
        futures = [self._enqueue(job, loop.create_future(), origin, moment) for job in jobs]
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._start, loop)  # after the other requests that have just come in
        try:
            if len(futures) == 1:
                return [await futures[0]]
            return list(await asyncio.gather(*futures))
        except asyncio.CancelledError:
            if self._stop and self._in_thread and not is_wanted(self._in_thread):
                self._stop()
            raise
        finally:  # an error that is raised here holds this function, and they hold the error
            futures.clear()

    async def answer(self, job: Job[T]) -> T:
        """Run one job and return its answer.

        Raises:
            RequestError: What is wrong with the job.
            Exception: Whatever unforeseen it raised.
        """
        (outcome,) = await self.submit([job])
        if isinstance(outcome, RequestError):
            try:
                raise outcome
            finally:  # no circle of exception and frame, which would keep the job's pixels
                del outcome
        return outcome

    def _enqueue(
        self, job: Job[T], future: asyncio.Future[T | RequestError], origin: Origin, moment: float
    ) -> asyncio.Future[T | RequestError]:
        self._submitted += 1
        heapq.heappush(self._queue, (moment, self._submitted, Queued(job, future, origin)))
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the queued jobs, in this thread or in that of the batcher, then check the queue again."""
        batch = self._take_batch(loop.time())
        self._is_running = bool(batch)
        if not batch:
            return
        self._meter.waited([queued.origin for queued in batch])
        if len(batch) == 1 and batch[0].job.is_small and self._runner.small_job_s <= _QUICK_S:
            self._hand_out(batch, *self._runner.work(batch))
            loop.call_soon(self._start, loop)
        else:
            self._run_in_thread(batch, loop)

    def _take_batch(self, now: float) -> list[Queued]:
        """Take the next batch by deadline; only one job of long work, so that new jobs do not wait for several."""
        batch: list[Queued] = []
        while self._queue and len(batch) < self._max_batch:
            moment, _, queued = heapq.heappop(self._queue)
            if queued.future.done():  # its request was cancelled
                continue
            batch.append(queued)
            if moment > now + _DEAR_S and not self._may_share:
                break
        return batch

    def _run_in_thread(self, batch: list[Queued], loop: asyncio.AbstractEventLoop) -> None:
        are_small = all(queued.job.is_small for queued in batch)
        self._in_thread = batch

        def hand_out(done: ThreadFuture[tuple[list[object], Spent]]) -> None:
            self._in_thread = []
            self._hand_out(batch, *done.result())
            if are_small:
                self._start(loop)
            else:  # after those who have just been answered: their next tile is due first
                loop.call_soon(self._start, loop)

        def back_to_loop(done: ThreadFuture[tuple[list[object], Spent]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for these answers any more
                loop.call_soon_threadsafe(hand_out, done)

        self._thread.submit(self._runner.work, batch).add_done_callback(back_to_loop)

    def _hand_out(self, batch: list[Queued], results: list[object], spent: Spent) -> None:
        for queued, result in zip(batch, results, strict=True):
            if queued.future.done():  # its request was cancelled meanwhile
                continue
            if isinstance(result, Exception) and not isinstance(result, RequestError):
                queued.future.set_exception(result)
            else:
                queued.future.set_result(result)
        self._meter.record(spent, [queued.origin for queued in batch])
        # An error holds the functions it came through, and they hold these lists: a circle that would keep all pixels
        # of the batch until the next full garbage collection.
        batch.clear()
        results.clear()
