"""Run a batch of jobs through a graph: prepare each, run jobs of one shape together, finish each."""

import logging
import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from service.errors import NonFiniteResult, RequestError
from service.models.job import Inputs, Outputs, Queued, is_wanted
from service.telemetry.counters import GraphMeter, Spent

QUICK_S = 0.001  # CPU seconds of a small job that may run in the event loop
_FORGETTING = 0.9  # decay of earlier timings, at every new one
# In input values: of smaller runs, only one in `_TIMED_EVERY` is timed, as reading the clock is a system call. So it is
# with batches of quick jobs.
_ALWAYS_TIMED, _TIMED_EVERY = 65_536, 16
_FIRST_GUESS_S = 1e-6  # per input value, before the first run
_TRY_AGAIN_AFTER = 100  # runs that fit: then twice as many images may run at once, as the memory may be free again

log = logging.getLogger(__name__)


class Runner:
    """Runs jobs through a graph, in the calling thread, one batch at a time.

    Jobs of one shape share an inference of at most `max_batch` images. Each job gets its own rows, or its own error.
    Jobs whose requests have ended are skipped.

    Args:
        run: Runs the graph.
        max_batch: Largest number of images in one inference.
        max_pixels: Approximate limit of decoded values held at a time.
        max_batch_pixels: Largest height x width in one inference of several images, summed over them.
        cell: Side in pixels that one element of the first input stands for.
        name: Name of the graph, for messages.
        meter: Meter of the graph; tells whether its outputs include scores.
    """

    def __init__(
        self,
        run: Callable[..., Outputs],
        *,
        max_batch: int,
        max_pixels: int,
        max_batch_pixels: int,
        cell: int,
        name: str,
        meter: GraphMeter,
    ) -> None:
        self.run = run
        self.small_job_s = math.inf  # CPU seconds per job in the latest timed batch of small jobs; infinite if unknown
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        self._max_batch_pixels = self._fitting_batch_pixels = max_batch_pixels
        self._fitted = 0  # runs since the last that did not fit, or the last step back to `max_batch_pixels`
        self._cell_pixels = cell**2
        self._name = name
        self._meter = meter
        self._runs = 0
        self._ran_numbers, self._ran_s = 1.0, _FIRST_GUESS_S  # decayed sums; their quotient is the cost of a value

    def expected_s(self, numbers: int) -> float:
        """Estimate the CPU time for this many input values from recent runs."""
        return numbers * self._ran_s / self._ran_numbers

    def work(self, batch: list[Queued]) -> tuple[list[object], Spent]:
        """Run jobs and return the answer or error of each, None for skipped ones, and the time spent."""
        is_timed = self.small_job_s > QUICK_S or self._runs % _TIMED_EVERY == 0
        started = time.thread_time() if is_timed else 0.0
        results, spent = self._results(batch)
        if all(queued.job.is_small for queued in batch):
            if is_timed:
                self.small_job_s = (time.thread_time() - started) / len(batch)
            elif time.perf_counter() - spent.started_at > QUICK_S * len(batch):  # or another process had the core
                self.small_job_s = math.inf
        return results, spent

    def _results(self, batch: list[Queued]) -> tuple[list[object], Spent]:
        results: list[object] = [None] * len(batch)
        ready: list[tuple[int, Inputs]] = []
        since = time.perf_counter()
        spent = Spent(started_at=since)
        for i, queued in enumerate(batch):
            if queued.future.done():  # cancelled since the batch began
                continue
            try:
                made = queued.job.prepare()
                ready.append((i, made if isinstance(made, tuple) else (made,)))
            except Exception as error:  # noqa: BLE001  one request's failure is not another's
                results[i] = _without_frames(error)
            if sum(x[0].size for _, x in ready) >= self._max_pixels:  # bounds the memory of decoded images
                spent.decode_s += time.perf_counter() - since
                self._infer(batch, ready, results, spent)
                ready, since = [], time.perf_counter()
        spent.decode_s += time.perf_counter() - since
        self._infer(batch, ready, results, spent)
        spent.failed = sum(isinstance(result, Exception) for result in results)
        return results, spent

    def _infer(self, batch: list[Queued], ready: list[tuple[int, Inputs]], results: list[object], spent: Spent) -> None:
        for group in _groups(ready, self._max_batch):
            members = [batch[i] for i, _ in group]
            if not is_wanted(members):
                continue
            try:
                columns = zip(*(inputs for _, inputs in group), strict=True)
                together = tuple(map(np.concatenate, columns)) if len(group) > 1 else group[0][1]
                outputs = self._run_in_chunks(together, members, spent)
            except Exception as error:  # noqa: BLE001  the batch failed, not the service
                for i, _ in group:
                    results[i] = _without_frames(error)
                continue
            if outputs is None:
                continue
            since = time.perf_counter()
            if self._meter.has_scores:
                spent.scores += outputs[0].tolist()
            start, is_finite = 0, all_finite(outputs)  # one check of all rows; each is checked only if it fails
            for i, (x, *_) in group:
                rows = tuple(output[start : start + len(x)] for output in outputs)
                start += len(x)
                if batch[i].future.done():
                    continue
                try:
                    if not is_finite and not all_finite(rows):
                        raise NonFiniteResult(
                            f"{self._name} returned NaN or infinity for this input; "
                            "send images or latents like those it was trained on"
                        )
                    results[i] = batch[i].job.finish(rows)
                except Exception as error:  # noqa: BLE001  one request's failure is not another's
                    results[i] = _without_frames(error)
            spent.encode_s += time.perf_counter() - since

    def _run_in_chunks(self, inputs: Inputs, wanted_by: list[Queued], spent: Spent) -> Outputs | None:
        """Return the graph's outputs, or None once all clients have left. A chunk that does not fit is halved.

        Raises:
            MemoryError: There is not enough memory for a single image.
        """
        x = inputs[0]
        count, pixels = len(x), math.prod(x.shape[2:]) * self._cell_pixels
        chunks: list[Outputs] = []
        start = 0
        while True:
            size = max(1, min(self._max_batch, self._fitting_batch_pixels // pixels))  # images in one inference
            chunk = inputs if size >= count else tuple(rows[start : start + size] for rows in inputs)
            try:
                outputs = self._run_once(chunk, spent)
            except MemoryError as error:
                self._halve(len(chunk[0]), pixels, error)
                continue
            self._recover()
            if size >= count:
                return outputs
            chunks.append(outputs)
            start += size
            if start >= count:
                return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))
            if not is_wanted(wanted_by):
                return None

    def _halve(self, images: int, pixels: int, error: MemoryError) -> None:
        """Run half as many images at once, for some time."""
        if images == 1:
            raise error
        self._fitting_batch_pixels, self._fitted = images // 2 * pixels, 0
        log.warning(
            "%s: %d images do not fit into memory at once; the next %d runs have at most %d: %s",
            self._name,
            images,
            _TRY_AGAIN_AFTER,
            images // 2,
            error,
        )

    def _recover(self) -> None:
        """Run twice as many images at once after some runs that fit, up to the limit."""
        if self._fitting_batch_pixels < self._max_batch_pixels:
            self._fitted += 1
            if self._fitted == _TRY_AGAIN_AFTER:
                self._fitting_batch_pixels = min(2 * self._fitting_batch_pixels, self._max_batch_pixels)
                self._fitted = 0

    def _run_once(self, inputs: Inputs, spent: Spent) -> Outputs:
        size, self._runs = inputs[0].size, self._runs + 1
        is_timed = size >= _ALWAYS_TIMED or self._runs % _TIMED_EVERY == 1
        started, cpu_started = time.perf_counter(), time.thread_time() if is_timed else 0.0
        outputs = self.run(*inputs)
        spent.runs.append((len(inputs[0]), time.perf_counter() - started))
        if is_timed:  # in CPU seconds: other processes on the core do not count
            self._ran_numbers = _FORGETTING * self._ran_numbers + size
            self._ran_s = _FORGETTING * self._ran_s + time.thread_time() - cpu_started
        return outputs


def _without_frames(error: Exception) -> Exception:
    """Return an error; drop the traceback of one that is not logged.

    Its frames hold the jobs of a batch, and these hold the error: a cycle that would keep all their pixels until the
    next full garbage collection.
    """
    if isinstance(error, (RequestError, MemoryError)):
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def all_finite(outputs: Outputs) -> bool:
    """Return whether all values are finite."""
    # min and max propagate NaN, and need no temporary array as np.isfinite does.
    return all(math.isfinite(output.min()) and math.isfinite(output.max()) for output in outputs if output.size)


def _groups(ready: list[tuple[int, Inputs]], max_batch: int) -> Iterator[list[tuple[int, Inputs]]]:
    """Yield groups of jobs of one shape, with at most `max_batch` rows.

    A job with more rows forms a group alone.
    """
    by_shape: dict[tuple[int, ...], list[tuple[int, Inputs]]] = {}
    for i, inputs in ready:
        x = inputs[0]
        group = by_shape.setdefault(x.shape[1:], [])
        if group and sum(len(rows[0]) for _, rows in group) + len(x) > max_batch:
            yield group
            group = by_shape[x.shape[1:]] = []
        group.append((i, inputs))
    yield from by_shape.values()
