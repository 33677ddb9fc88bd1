"""Looks at all jobs that streams of events follow, with one query for all of them."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

from service.api.shared_call import SharedCall
from service.api.signals import Signal
from service.collections.store.job import Job
from service.collections.store.jobs import JobQueue
from service.collections.store.threads import StoreThreads
from service.errors import StoreUnavailable
from service.http.admission import Admission

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5


class Follower(Signal):
    """One stream that follows a job. It is woken when the job has changed, and when the service stops.

    Attributes:
        job: The job as it was last seen; None once it is cancelled or deleted.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job: Job | None = job


class JobWatcher:
    """Watches all followed jobs of one worker, while there are any.

    Args:
        jobs: The queue.
        admission: Knows when the service stops.
    """

    def __init__(self, jobs: StoreThreads[JobQueue], admission: Admission) -> None:
        self._jobs = jobs
        self._admission = admission
        self._followers: defaultdict[str, set[Follower]] = defaultdict(set)
        self._starting: set[str] = set()  # ids of streams that wait for their first look
        self._shared = SharedCall(self._look)
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Number of streams."""
        return sum(map(len, self._followers.values()))

    async def find(self, job_id: str) -> Job | None:
        """Return a job of any owner, or None. All who ask at the same time share one query.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        self._starting.add(job_id)
        return (await self._shared.result()).get(job_id)

    @contextlib.contextmanager
    def follow(self, job: Job) -> Iterator[Follower]:
        """Watch a job for the length of a block."""
        follower = Follower(job)
        self._followers[job.id].add(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield follower
        finally:
            self._followers[job.id].remove(follower)
            if not self._followers[job.id]:
                del self._followers[job.id]
            if not self._followers:
                self._task.cancel()
                self._task = None

    async def look(self) -> None:
        """Look at all followed jobs once, and wake the streams that have something to tell."""
        try:
            await self._shared.result()
        except StoreUnavailable:  # the next look may find them
            pass
        except Exception:
            log.exception("followed jobs could not be read")
        if self._admission.is_draining:
            for followers in self._followers.values():
                for follower in followers:
                    follower.wake()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    async def _look(self) -> dict[str, Job]:
        followed, ids = dict(self._followers), self._followers.keys() | self._starting
        self._starting.clear()
        found = await self._jobs.run(lambda queue: queue.jobs(ids))
        for job_id, followers in followed.items():
            job = found.get(job_id)
            for follower in followers:
                if follower.job != job:
                    follower.job = job
                    follower.wake()
        return found
