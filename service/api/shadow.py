"""The shadow of an alias: it runs after the answer, and `/metrics` reports the differences.

It delays requests as little as possible: it starts after the answer, compares at most two files at a time, and drops
requests that do not fit into the budget.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.contract.manifest import Task
from service.deadline import Deadline, set_deadline, set_due
from service.errors import DeadlineExceeded, QueueFull, RequestError
from service.http.admission import Admission
from service.http.budget import Budget, Hold
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.models.aliases import Alias
from service.models.model import Model
from service.models.registry import Registry
from service.tasks.answer import Answer
from service.tasks.difference import psnr_of, verdicts_of
from service.tasks.work import FileWork
from service.telemetry.counters import Meters

log = logging.getLogger(__name__)

_AT_ONCE = 2  # requests that are compared
_BUSY_PART = 1 / 8  # of the queue: from there on nothing is compared
_TIME_S = 10.0  # for one request; what is expected to need more than half of it is not begun

MakeWorks = Callable[[Model], Sequence[FileWork]]


@dataclass(frozen=True)
class Answered:
    """A request that was answered, and its task.

    Attributes:
        files: Files of the request.
        results: The answer to each, or its problem.
        make_works: Makes the same work for another version.
    """

    task: Task
    files: Sequence[ImageFile]
    results: Sequence[Answer | RequestError]
    make_works: MakeWorks


class Shadows:
    """Compares answers with those of shadows.

    Args:
        registry: Registry of the versions.
        admission: Admission control, for the load of this worker.
        budget: Budget shared with the requests.
        limits: Limits on pictures.
        meters: Counters of the differences.
    """

    def __init__(
        self, registry: Registry, admission: Admission, budget: Budget, limits: InputLimits, meters: Meters
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._budget = budget
        self._limits = limits
        self._meters = meters
        self._running: set[asyncio.Task[None]] = set()

    def offer(self, alias: Alias, answered: Answered) -> None:
        """Schedule a comparison if there is room for it, and return at once."""
        busy_images = max(len(answered.files), int(self._admission.max_images * _BUSY_PART))
        if len(self._running) >= _AT_ONCE or self._admission.images > busy_images or self._admission.is_draining:
            self._count(alias, "dropped")
            return
        # In a context of its own: the request's deadline, progress and span are not those of this.
        task = asyncio.create_task(self._run(alias, answered), context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancel running comparisons."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, alias: Alias, answered: Answered) -> None:
        hold = Hold(self._budget, "shadow")
        set_deadline(Deadline(_TIME_S))
        set_due(asyncio.get_running_loop().time() + _TIME_S)  # after everybody who waits for an answer
        try:
            async with asyncio.timeout(_TIME_S):
                await self._compare(alias, answered, hold)
        except (QueueFull, DeadlineExceeded, TimeoutError):
            self._count(alias, "dropped")
        except RequestError as error:
            log.warning("shadow %s/%s: %s", alias.model, alias.shadow, error)
            self._count(alias, "failed")
        except Exception:  # nobody waits for it, so nobody would be told
            log.exception("shadow %s/%s", alias.model, alias.shadow)
            self._count(alias, "failed")
        finally:
            hold.free()

    async def _compare(self, alias: Alias, answered: Answered, hold: Hold) -> None:
        model = await self._registry.find(answered.task, alias.model, alias.shadow)
        batcher, works = model.batcher_by_task[answered.task], answered.make_works(model)
        cost = works[0].cost(answered.files, batcher)
        if cost.seconds > _TIME_S / 2:
            raise QueueFull("it takes too long")
        answers = sum(len(result.content) for result in answered.results if isinstance(result, Answer))
        hold.reserve(bytes=cost.bytes + answers, seconds=cost.seconds)
        for file, work, result in zip(answered.files, works, answered.results, strict=True):
            if isinstance(result, RequestError):
                continue
            other = await work.run(batcher)
            if answered.task == "anomaly":
                self._note_verdicts(alias, result, other)
            else:
                psnr_db = await asyncio.to_thread(psnr_of, result, other, file.form, self._limits)
                self._meters.histogram("hourglass_shadow_psnr_db", alias.model, alias.name).observe(psnr_db)
        self._count(alias, "compared")

    def _note_verdicts(self, alias: Alias, answer: Answer, other: Answer) -> None:
        labels = (alias.model, alias.name)
        difference = self._meters.histogram("hourglass_shadow_score_difference", *labels)
        for said, would_say in zip(verdicts_of(answer), verdicts_of(other), strict=False):
            difference.observe(abs(would_say["score"] - said["score"]))
            self._meters.count("hourglass_shadow_verdicts", *labels, said["verdict"], would_say["verdict"])

    def _count(self, alias: Alias, outcome: str) -> None:
        self._meters.count("hourglass_shadow_requests", alias.model, alias.name, outcome)
