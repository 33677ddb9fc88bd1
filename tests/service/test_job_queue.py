"""The queue of jobs, the same in SQLite and PostgreSQL: one worker a job, and no job is lost or done twice."""

import contextlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw
import pytest

from service.collections.store import open_jobs
from service.collections.store.job import Job, JobBounds
from service.collections.store.job_table import OVERHEAD_BYTES
from service.collections.store.jobs import JobQueue
from service.errors import JobNotDone, JobNotFound, JobsFull

BOUNDS = JobBounds(max_jobs=100, max_bytes=2**20, keep_s=3600.0)
LONG_S = 3600.0


@pytest.fixture(params=["sqlite", "postgres"])
def jobs_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'items.db'}"
    found: str = request.getfixturevalue("postgres_url")
    import psycopg  # noqa: PLC0415

    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS hourglass_jobs, hourglass_jobs_beats")
    return found


@pytest.fixture
def queue(jobs_url: str) -> Iterator[JobQueue]:
    with contextlib.closing(open_jobs(jobs_url)) as queue:
        yield queue


def submit(queue: JobQueue, payload: bytes = b"x", kind: str = "request", **options: object) -> Job:
    return queue.submit(kind, payload, **{"bounds": BOUNDS} | options)  # type: ignore[arg-type]  # of the same types


def test_the_oldest_job_of_a_kind_comes_first(queue: JobQueue) -> None:
    first, second = submit(queue, b"1"), submit(queue, b"2")
    other = submit(queue, b"3", kind="train")

    leases = [queue.lease("request", lease_s=LONG_S) for _ in range(3)]

    assert [lease and (lease.id, lease.payload, lease.attempt) for lease in leases] == [
        (first.id, b"1", 1), (second.id, b"2", 1), None,
    ]  # fmt: skip
    assert queue.job(first.id).state == "running"
    assert queue.job(other.id).state == "queued"


def test_a_job_knows_its_place_and_its_progress(queue: JobQueue) -> None:
    first, _, third = (submit(queue) for _ in range(3))

    assert (first.position, third.position) == (0, 2)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None
    assert queue.beat(lease, lease_s=LONG_S, done=3, steps=20)

    running = queue.job(first.id)
    assert (running.state, running.done, running.steps, running.position) == ("running", 3, 20, None)
    assert queue.job(third.id).position == 1
    assert queue.waiting("request") == (2, 1)


def test_jobs_are_found_together(queue: JobQueue) -> None:
    first, second, _ = submit(queue), submit(queue, owner="me"), submit(queue)

    assert queue.jobs([first.id, second.id, "none"]) == {first.id: first, second.id: second}
    assert queue.jobs([]) == {}


def test_the_state_of_a_job_is_stored_before_its_long_payload_and_result(tmp_path: Path) -> None:
    open_jobs(f"sqlite:///{tmp_path / 'items.db'}").close()

    with contextlib.closing(sqlite3.connect(tmp_path / "items-jobs.db")) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]

    assert columns[-2:] == ["payload", "result"]


def test_a_heartbeat_does_not_write_the_payload_again(tmp_path: Path) -> None:
    log = tmp_path / "items-jobs.db-wal"
    with contextlib.closing(open_jobs(f"sqlite:///{tmp_path / 'items.db'}")) as queue:
        submit(queue, bytes(2**19))
        lease = queue.lease("request", lease_s=LONG_S)
        assert lease is not None
        with contextlib.closing(apsw.Connection(str(tmp_path / "items-jobs.db"))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        for done in (1, 100, 70_000):
            assert queue.beat(lease, lease_s=1000 * done, done=done, steps=80_000)

        assert log.stat().st_size < 2**17
        assert (queue.job(lease.id).done, queue.job(lease.id).steps) == (70_000, 80_000)
        assert queue.fail(lease, "{}")
        assert queue.job(lease.id).done == 70_000


def test_many_workers_share_jobs_without_taking_one_twice(queue: JobQueue, jobs_url: str) -> None:
    wanted = {submit(queue).id for _ in range(40)}
    taken: list[str] = []

    def work(_: int) -> None:
        with contextlib.closing(open_jobs(jobs_url)) as own:
            while lease := own.lease("request", lease_s=LONG_S):
                taken.append(lease.id)
                assert own.finish(lease, head="{}", result=b"", bounds=BOUNDS)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))

    assert sorted(taken) == sorted(wanted)
    assert {queue.job(job_id).state for job_id in wanted} == {"done"}


def test_a_result_is_kept_with_its_head(queue: JobQueue) -> None:
    job = submit(queue, b"payload" * 100)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None
    with pytest.raises(JobNotDone, match="is running, 0 of 0 steps"):
        queue.result(job.id)
    with pytest.raises(JobNotDone):
        queue.result_size(job.id)

    assert queue.finish(lease, head='{"a": 1}', result=b"\x00result", bounds=BOUNDS)

    assert queue.result_size(job.id) == 7
    done, head, content = queue.result(job.id)
    assert (done.state, head, content) == ("done", '{"a": 1}', b"\x00result")
    assert done.ended is not None
    assert done.ended >= done.created


def test_a_worker_that_went_away_is_replaced_and_what_it_brings_later_is_refused(queue: JobQueue) -> None:
    job = submit(queue)
    lost = queue.lease("request", lease_s=0.0)  # it has run out already
    assert lost is not None

    taken = queue.lease("request", lease_s=LONG_S)

    assert taken is not None
    assert (taken.id, taken.attempt) == (job.id, 2)
    assert not queue.beat(lost, lease_s=LONG_S, done=1, steps=1)
    assert not queue.finish(lost, head="{}", result=b"late", bounds=BOUNDS)
    assert not queue.fail(lost, "{}")
    assert queue.finish(taken, head="{}", result=b"right", bounds=BOUNDS)
    assert not queue.finish(taken, head="{}", result=b"again", bounds=BOUNDS)
    assert queue.result(job.id)[2] == b"right"


def test_a_job_whose_workers_all_go_away_is_said_to_have_failed(queue: JobQueue) -> None:
    job, after = submit(queue, max_attempts=2), submit(queue)
    assert queue.lease("request", lease_s=0.0) is not None
    assert queue.lease("request", lease_s=0.0) is not None

    following = queue.lease("request", lease_s=LONG_S)

    assert following is not None
    assert following.id == after.id
    failed = queue.job(job.id)
    assert failed.state == "failed"
    assert failed.problem is not None
    assert '"code": "job-lost"' in failed.problem


def test_a_job_that_is_given_back_is_begun_anew_and_counts_as_not_tried(queue: JobQueue) -> None:
    job = submit(queue, max_attempts=1)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None

    queue.release(lease)

    assert queue.job(job.id).state == "queued"
    again = queue.lease("request", lease_s=LONG_S)
    assert again is not None
    assert (again.id, again.attempt) == (job.id, 1)
    assert not queue.finish(lease, head="{}", result=b"", bounds=BOUNDS)


def test_a_removed_job_stops_its_worker(queue: JobQueue) -> None:
    job = submit(queue)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None

    queue.remove(job.id)

    assert not queue.beat(lease, lease_s=LONG_S, done=0, steps=0)
    assert not queue.finish(lease, head="{}", result=b"", bounds=BOUNDS)
    for ask in (queue.job, queue.result_size, queue.result, queue.remove):
        with pytest.raises(JobNotFound, match="no job"):
            ask(job.id)


def test_a_job_is_seen_by_its_owner_alone(queue: JobQueue) -> None:
    mine, everyones = submit(queue, owner="me"), submit(queue)

    assert queue.job(mine.id, "me").id == mine.id
    assert queue.job(everyones.id, "me").id == everyones.id
    for ask in (queue.job, queue.result_size, queue.result, queue.remove):
        with pytest.raises(JobNotFound):
            ask(mine.id, "another")


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        (JobBounds(2, 2**20, 3600.0), r"2 jobs are stored, the limit is 2 \(setting max_jobs\)"),
        (JobBounds(100, 2 * (OVERHEAD_BYTES + 1), 3600.0), r"more do not fit, .*max_jobs_bytes"),
    ],
)
def test_jobs_are_bounded_in_number_and_bytes_and_removing_one_makes_room(
    queue: JobQueue, bounds: JobBounds, match: str
) -> None:
    first, _ = submit(queue), submit(queue)

    with pytest.raises(JobsFull, match=match):
        submit(queue, bounds=bounds)
    queue.remove(first.id)

    assert submit(queue, bounds=bounds).position == 1


def test_a_result_for_which_there_is_no_room_is_a_failure(queue: JobQueue) -> None:
    job = submit(queue)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None

    assert queue.finish(lease, head="{}", result=bytes(4000), bounds=JobBounds(9, 4000, 3600.0))

    failed = queue.job(job.id)
    assert failed.state == "failed"
    assert "4000 bytes does not fit" in str(failed.problem)


def test_ended_jobs_are_forgotten_after_their_time_and_others_stay(queue: JobQueue) -> None:
    ended, waits = submit(queue), submit(queue)
    lease = queue.lease("request", lease_s=LONG_S)
    assert lease is not None
    queue.finish(lease, head="{}", result=b"", bounds=BOUNDS)

    queue.expire(BOUNDS)
    assert queue.job(ended.id).state == "done"
    queue.expire(JobBounds(100, 2**20, keep_s=0.0))

    with pytest.raises(JobNotFound):
        queue.job(ended.id)
    assert queue.job(waits.id).state == "queued"


def test_a_webhook_is_due_once_its_job_has_ended_and_until_it_was_delivered(queue: JobQueue) -> None:
    job = submit(queue, webhook="https://hooks.example/a")
    submit(queue)
    soon, late = partial(queue.call, pause_s=lambda _: 0.0), partial(queue.call, pause_s=lambda _: LONG_S)
    assert job.webhook_state == "waiting"
    assert soon() is None

    for _ in range(2):
        lease = queue.lease("request", lease_s=LONG_S)
        assert lease is not None
        queue.fail(lease, '{"status": 422}')
    calls = [soon(), late(), late()]

    assert [call and (call.job.id, call.url, call.attempt) for call in calls] == [
        (job.id, "https://hooks.example/a", 1), (job.id, "https://hooks.example/a", 2), None,
    ]  # fmt: skip
    queue.called(job.id, "delivered")
    assert queue.job(job.id).webhook_state == "delivered"


def test_jobs_outlive_the_process_that_took_them(jobs_url: str) -> None:
    with contextlib.closing(open_jobs(jobs_url)) as queue:
        job = submit(queue, b"\xff\x00")

    with contextlib.closing(open_jobs(jobs_url)) as queue:
        lease = queue.lease("request", lease_s=LONG_S)

    assert lease is not None
    assert (lease.id, lease.payload) == (job.id, b"\xff\x00")
