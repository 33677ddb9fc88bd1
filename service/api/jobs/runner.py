"""Takes jobs from the queue and works on them, one at a time in each worker: those who wait for an answer go first."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from fastapi import FastAPI
from starlette.types import ASGIApp

from service.api.jobs.replay import Reply, replay
from service.api.jobs.stored import KIND, StoredRequest
from service.api.service import Service
from service.collections.store.job import Lease
from service.collections.store.jobs import JobQueue
from service.errors import StoreUnavailable
from service.progress import Progress, follow

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_EVERY_S = 1.0  # for jobs that other workers took; one of our own wakes us
_BEAT_S = 1.0  # so often a job's progress is written
_EXPIRE_EVERY_S = 60.0
_PAUSE_S = 1.0  # before another attempt at what had no room
_TRIES = 5  # to write a result
_LATER = {"queue-full", "not-ready"}  # problems of the moment: the job waits for room


class JobRunner:
    """Runs the jobs of one worker.

    Args:
        service: Whose jobs they are.
        app: The whole application.
        routes: Its part behind the check of keys.
    """

    def __init__(self, service: Service, app: FastAPI, routes: ASGIApp) -> None:
        self._service = service
        self._app = app
        self._routes = routes
        self._is_stopping = False
        self._current: asyncio.Task[Reply] | None = None
        self._expired_at = -_EXPIRE_EVERY_S
        self._is_away = False  # the database, when it was last asked

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._is_stopping:
            if self._service.admission.is_draining or (lease := await self._lease()) is None:
                await self._service.job_signal.wait(_LOOK_EVERY_S)
            else:
                try:
                    await self._work(lease)
                except Exception:  # its lease runs out; others must not wait for a look at the log
                    log.exception("job %s could not be worked on", lease.id)

    def stop(self) -> None:
        """Take no more jobs, and return the running one to the queue."""
        self._is_stopping = True
        self._service.job_signal.wake()
        if self._current is not None:
            self._current.cancel()

    async def _lease(self) -> Lease | None:
        if not self._service.has_jobs:
            return None
        settings = self._service.settings
        try:
            if monotonic() - self._expired_at >= _EXPIRE_EVERY_S:
                self._expired_at = monotonic()
                await self._ask(lambda queue: queue.expire(self._service.job_bounds))
            lease = await self._ask(lambda queue: queue.lease(KIND, lease_s=settings.job_lease_s))
        except StoreUnavailable as error:
            if not self._is_away:
                log.warning("jobs cannot be taken: %s", error)
            self._is_away = True
            return None
        self._is_away = False
        return lease

    async def _work(self, lease: Lease) -> None:
        progress = Progress()
        stored = StoredRequest.from_bytes(lease.payload)
        lease = replace(lease, payload=b"")  # held once, not twice, while it is worked on
        self._current = asyncio.create_task(self._answer(stored, progress))
        del stored
        if self._is_stopping:  # since the lease was asked for
            self._current.cancel()
        is_mine = await self._beat_until_done(lease, self._current, progress)
        task, self._current = self._current, None
        if not is_mine:
            await asyncio.wait([task])
            self._count("cancelled")
        elif task.cancelled() or task.result().problem == "draining":
            await self._write(lambda queue: queue.release(lease))
            self._count("given back")
        else:
            await self._end(lease, task.result(), progress.steps)

    async def _beat_until_done(self, lease: Lease, task: asyncio.Task[Reply], progress: Progress) -> bool:
        """Renew the lease until the job is done. Return False if the job was cancelled or the lease lost."""
        lease_s = self._service.settings.job_lease_s
        while not task.done():
            await asyncio.wait([task], timeout=min(_BEAT_S, lease_s / 3))
            if task.done():
                break
            done, steps = progress.done, progress.steps
            try:
                is_mine = await self._ask(lambda queue: queue.beat(lease, lease_s=lease_s, done=done, steps=steps))  # noqa: B023  it is awaited here
            except StoreUnavailable as error:
                log.warning("job %s: its progress cannot be written: %s", lease.id, error)
                continue
            if not is_mine:
                task.cancel()
                return False
        return True

    async def _answer(self, stored: StoredRequest, progress: Progress) -> Reply:
        follow(progress)
        while True:
            progress.done = progress.steps = 0
            reply = await replay(
                self._routes,
                self._app,
                stored,
                budget=self._service.budget,
                timeout_s=self._service.settings.job_timeout_s,
            )
            if reply.problem not in _LATER:
                return reply
            await asyncio.sleep(_PAUSE_S)

    async def _end(self, lease: Lease, reply: Reply, steps: int) -> None:
        bounds = self._service.job_bounds
        if reply.problem is None:
            head = reply.answer.to_json()
            is_kept = await self._write(
                lambda queue: queue.finish(lease, head=head, result=reply.content, bounds=bounds, steps=steps)
            )
        else:
            problem = reply.content.decode("ascii")
            is_kept = await self._write(lambda queue: queue.fail(lease, problem))
        self._count(("done" if reply.problem is None else "failed") if is_kept else "cancelled")
        self._service.webhook_signal.wake()

    async def _write(self, ask: Callable[[JobQueue], T]) -> T | None:
        """Call the queue, with retries. If all fail, the lease expires and the job is started again."""
        for _ in range(_TRIES):
            try:
                return await self._ask(ask)
            except StoreUnavailable as error:
                log.warning("the end of a job cannot be written: %s", error)
                await asyncio.sleep(_PAUSE_S)
        return None

    async def _ask(self, ask: Callable[[JobQueue], T]) -> T:
        return await self._service.jobs.write(ask)

    def _count(self, outcome: str) -> None:
        self._service.metrics.meters.count("hourglass_jobs", outcome)
