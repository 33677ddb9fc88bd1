"""Dynamic batching without a delay: jobs that queue while a batch runs form the next batch of the graph."""

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
from service.models.runner import QUICK_S, Runner
from service.telemetry.counters import GraphMeter, Meters, Origin, Spent

T = TypeVar("T")

_DEAR_S = 0.25  # CPU seconds: longer work is not batched


class Batcher:
    """The queue of one graph and its worker thread.

    A batch is decoded, run and encoded in one hop to the thread: the event loop stays free, and a request costs one
    wake-up. A single small job runs in the event loop itself if such jobs take at most a millisecond, since the hop
    would cost more. Jobs of one shape share an inference of at most `max_batch` images. Each job gets its own rows, or
    its own error. The thread ends with the last reference to the batcher, so a replaced model finishes its queue.

    A large image submits its next tile when the previous one is done. Batches are closed only after the requests of
    the last batch could submit their next tiles. So tiles of several images share an inference if it has room for
    them; otherwise the image with the earliest deadline is next.

    Args:
        run: Runs the graph.
        stop: Ends a run early; runs cannot be ended if omitted.
        max_batch: Largest number of images in one inference.
        max_pixels: Approximate limit of decoded values held at a time.
        max_batch_pixels: Largest height x width in one inference of several images, summed over them: activations
            take a hundred times the memory of the pixels, and a few small images keep a CPU core busy.
        cell: Side in pixels that one element of the first input stands for: 8 for a grid of symbols, else 1.
        name: Name of the graph in messages, and of the thread: "digits/2 denoise".
        meter: Records the cost of every batch, if given.
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
        self._queue: list[tuple[float, int, Queued]] = []  # a heap by deadline, then by order of arrival
        self._submitted = 0
        self._is_running = False
        self._in_thread: list[Queued] = []  # the batch in the thread
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def expected_s(self, numbers: int) -> float:
        """Estimate the CPU time for this many input values from recent runs."""
        return self._runner.expected_s(numbers)

    async def submit(self, jobs: Sequence[Job[T]]) -> list[T | RequestError]:
        """Run jobs and return the answer or error of each, in order.

        Jobs run in order of their deadlines: a small image overtakes a large one that arrived earlier, but cannot
        delay it indefinitely. Cancelling drops the jobs that have not started, and stops a run that no other request
        waits for.

        Raises:
            Exception: A job failed with an unforeseen error.
        """
        loop = asyncio.get_running_loop()
        origin, moment = self._meter.came(), max(due(), loop.time())
        futures = [self._enqueue(job, loop.create_future(), origin, moment) for job in jobs]
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._start, loop)  # after other requests that are ready in this step of the loop
        try:
            if len(futures) == 1:
                return [await futures[0]]
            return list(await asyncio.gather(*futures))
        except asyncio.CancelledError:
            if self._stop and self._in_thread and not is_wanted(self._in_thread):
                self._stop()
            raise
        finally:  # break the cycle: an error holds this frame, and the futures hold the error
            futures.clear()

    async def answer(self, job: Job[T]) -> T:
        """Run one job and return its answer.

        Raises:
            RequestError: The input of the job is at fault.
            Exception: The job failed with an unforeseen error.
        """
        (outcome,) = await self.submit([job])
        if isinstance(outcome, RequestError):
            try:
                raise outcome
            finally:  # break the cycle of exception and frame, which would keep the job's pixels
                del outcome
        return outcome

    def _enqueue(
        self, job: Job[T], future: asyncio.Future[T | RequestError], origin: Origin, moment: float
    ) -> asyncio.Future[T | RequestError]:
        self._submitted += 1
        heapq.heappush(self._queue, (moment, self._submitted, Queued(job, future, origin)))
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run queued jobs in this thread or in that of the batcher, then check the queue again."""
        batch = self._take_batch(loop.time())
        self._is_running = bool(batch)
        if not batch:
            return
        self._meter.waited([queued.origin for queued in batch])
        if len(batch) == 1 and batch[0].job.is_small and self._runner.small_job_s <= QUICK_S:
            self._hand_out(batch, *self._runner.work(batch))
            if self._queue:
                loop.call_soon(self._start, loop)
            else:
                self._is_running = False
        else:
            self._run_in_thread(batch, loop)

    def _take_batch(self, now: float) -> list[Queued]:
        """Take the next batch, by deadline. A long job is not batched, so that new jobs do not wait for several."""
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
            else:  # after the clients just answered could submit their next tiles
                loop.call_soon(self._start, loop)

        def back_to_loop(done: ThreadFuture[tuple[list[object], Spent]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and no client waits any more
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
        # An error holds the frames it passed through, and they hold these lists: a cycle that would keep all pixels
        # of the batch until the next full garbage collection.
        batch.clear()
        results.clear()
