"""Streams of events share their reads, whoever comes, goes or fails."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, cast

import pytest

from service.api.job_watcher import JobWatcher
from service.collections.store.job import Job
from service.collections.store.jobs import JobQueue
from service.collections.store.threads import StoreThreads
from service.errors import StoreUnavailable
from service.http.admission import Admission


def running(job_id: str) -> Job:
    return Job(job_id, "request", "running", None, 0, 9, 1, 0.0, None, None, None, None)


class Queue:
    """The queue and its threads: counts the reads."""

    def __init__(self, *ids: str) -> None:
        self.job_by_id = {job_id: running(job_id) for job_id in ids}
        self.reads: list[set[str]] = []
        self.is_away = False

    async def run(self, ask: Callable[["Queue"], Any]) -> Any:  # noqa: ANN401  as the threads do
        await asyncio.sleep(0)  # a thread takes a while
        return ask(self)

    def jobs(self, ids: Collection[str]) -> dict[str, Job]:
        self.reads.append(set(ids))
        if self.is_away:
            raise StoreUnavailable("the jobs cannot be used")
        return {job_id: self.job_by_id[job_id] for job_id in ids if job_id in self.job_by_id}

    def watcher(self, admission: Admission | None = None) -> JobWatcher:
        return JobWatcher(cast("StoreThreads[JobQueue]", self), admission or Admission(max_images=1, timeout_s=1.0))


IDS = [f"job{i}" for i in range(100)]


def test_many_streams_are_one_read_at_their_start_and_one_at_each_look() -> None:
    queue = Queue(*IDS)

    async def test() -> None:
        watcher = queue.watcher()
        found = await asyncio.gather(*(watcher.find(job_id) for job_id in [*IDS, *IDS, "none"]))
        assert (queue.reads, found[-1]) == ([{*IDS, "none"}], None)
        with contextlib.ExitStack() as streams:
            followers = [streams.enter_context(watcher.follow(job)) for job in found if job is not None]
            waits = [asyncio.create_task(follower.wait(3600.0)) for follower in followers]
            queue.job_by_id["job3"] = replace(running("job3"), done=1)
            del queue.job_by_id["job7"]

            await watcher.look()

            changed = [3, 7, 103, 107]  # two streams follow each job
            await asyncio.gather(*(waits[i] for i in changed))
            assert [i for i, wait in enumerate(waits) if wait.done()] == changed
            assert [followers[i].job for i in changed] == [queue.job_by_id["job3"], None] * 2
            assert queue.reads[1:] == [set(IDS)]
            assert watcher.count == 200
            for wait in waits:
                wait.cancel()
        assert watcher.count == 0
        await asyncio.wait({*waits, *(asyncio.all_tasks() - {asyncio.current_task()})})  # its own ends, too

    asyncio.run(test())


def test_the_watcher_looks_by_itself_while_a_job_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.job_watcher._LOOK_EVERY_S", 0.0)
    queue = Queue("a")

    async def test() -> None:
        watcher = queue.watcher()
        for steps in (1, 2):  # it starts again after the last stream has left
            with watcher.follow(queue.job_by_id["a"]) as follower:
                queue.job_by_id["a"] = replace(running("a"), done=steps)
                await follower.wait(3600.0)
                assert follower.job == queue.job_by_id["a"]

    asyncio.run(test())


def test_a_store_that_is_away_ends_no_stream() -> None:
    queue = Queue("a")

    async def test() -> None:
        watcher = queue.watcher()
        with watcher.follow(running("a")) as follower:
            queue.is_away = True
            await watcher.look()
            assert follower.job == running("a")
            queue.is_away = False
            queue.job_by_id["a"] = replace(running("a"), state="done")

            await watcher.look()

            await follower.wait(3600.0)
            assert follower.job == queue.job_by_id["a"]

    asyncio.run(test())


def test_a_service_that_stops_wakes_all_streams() -> None:
    admission = Admission(max_images=1, timeout_s=1.0)

    async def test() -> None:
        watcher = Queue("a", "b").watcher(admission)
        with watcher.follow(running("a")) as first, watcher.follow(running("b")) as second:
            admission.is_draining = True
            await watcher.look()
            await asyncio.gather(first.wait(3600.0), second.wait(3600.0))

    asyncio.run(test())


def test_a_stream_that_leaves_during_its_first_look_harms_no_other() -> None:
    queue = Queue("a", "b")

    async def test() -> None:
        watcher = queue.watcher()
        leaves, stays = asyncio.create_task(watcher.find("a")), asyncio.create_task(watcher.find("b"))
        await asyncio.sleep(0)  # both ask
        leaves.cancel()

        assert await stays == running("b")
        assert leaves.cancelled()

    asyncio.run(test())
