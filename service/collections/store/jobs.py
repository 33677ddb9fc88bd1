"""The queue of jobs.

    queued -> running -> done | failed          cancelling deletes a job

A worker leases a job and renews the lease while it works. When a lease expires, another worker takes the job, and
results of the first one are rejected. So every job is done once, or has failed. All times are those of the database's
clock, as workers may run on several machines.
"""

# ruff: noqa: S608  only constants are formatted into SQL

import secrets
from collections.abc import Callable, Collection
from typing import Literal

from service.collections.store.job import Call, Job, JobBounds, Lease, new_id
from service.collections.store.job_table import OVERHEAD_BYTES, Dialect, JobTable
from service.collections.store.transaction import Ask, Transaction
from service.errors import JobLost, JobsFull

_MINE = "id = ? AND lease = ? AND state = 'running'"


class JobQueue:
    """The queue of jobs. Every method is one transaction, and blocks.

    Args:
        transaction: Runs work in a transaction.
        alone: Runs work in a serialised transaction, so that bounds are kept exactly.
        dialect: SQL of the database.
        close: Closes the connections.
    """

    def __init__(
        self, transaction: Transaction, alone: Transaction, dialect: Dialect, close: Callable[[], None]
    ) -> None:
        self._transaction = transaction
        self._alone = alone
        self._table = JobTable(dialect)
        self.close = close

    def submit(
        self,
        kind: str,
        payload: bytes,
        *,
        bounds: JobBounds,
        owner: str | None = None,
        webhook: str | None = None,
        max_attempts: int = 3,
    ) -> Job:
        """Add a job at the end of the queue.

        Args:
            kind: Kind of work, which selects the workers.
            payload: Input of the work.
            bounds: Limits of the queue.
            owner: Client that may access it; None for all clients that know its id.
            webhook: URL to call when the job ends.
            max_attempts: Number of workers that may start it before it fails.

        Raises:
            JobsFull: The queue is full.
        """
        job_id, size = new_id(), len(payload) + OVERHEAD_BYTES

        def submit(ask: Ask) -> Job:
            self._table.expire(ask, bounds)
            count, total = self._table.total(ask)
            if count >= bounds.max_jobs:
                raise _full(f"{count} jobs are stored, the limit is {bounds.max_jobs} (setting max_jobs)")
            if total + size > bounds.max_bytes:
                raise _full(
                    f"jobs take {total} bytes and {size} more do not fit, the limit is {bounds.max_bytes} (setting "
                    "max_jobs_bytes)"
                )
            ask(
                f"INSERT INTO {self._table.name} (id, kind, state, owner, payload, bytes, max_attempts, created, "
                f"webhook, webhook_state) VALUES (?, ?, 'queued', ?, ?, ?, ?, {self._table.now}, ?, ?)",
                *(job_id, kind, owner, payload, size, max_attempts, webhook, webhook and "waiting"),
            )
            return self._table.find(ask, job_id)

        return self._alone(submit)

    def lease(self, kind: str, *, lease_s: float) -> Lease | None:
        """Lease the oldest job that is queued or whose lease has expired; return None if there is none."""

        def lease(ask: Ask) -> Lease | None:
            while rows := ask(
                f"SELECT id, payload, attempts, max_attempts FROM {self._table.name} WHERE kind = ? AND "
                f"(state = 'queued' OR (state = 'running' AND {self._table.leased_until} <= {self._table.now})) "
                f"ORDER BY number LIMIT 1 {self._table.skip_locked}",
                kind,
            ):
                ((job_id, payload, attempts, most),) = rows
                if attempts < most:
                    token = secrets.token_hex(8)
                    ask(
                        f"UPDATE {self._table.name} SET state = 'running', lease = ?, attempts = attempts + 1, "
                        f"done = 0, steps = 0, leased_until = {self._table.now} + ? WHERE id = ?",
                        *(token, float(lease_s), job_id),
                    )
                    return Lease(job_id, token, kind, bytes(payload), attempts + 1)
                self._table.end(ask, "failed", "id = ?", job_id, problem=_gave_up(attempts))
            return None

        return self._transaction(lease)

    def beat(self, lease: Lease, *, lease_s: float, done: int, steps: int) -> bool:
        """Renew the lease of a job and store its progress.

        Returns:
            False if the job was cancelled or leased to another worker: this one must stop.
        """
        return bool(
            self._transaction(
                lambda ask: ask(
                    f"INSERT INTO {self._table.beats} (id, lease, leased_until, done, steps) "
                    f"SELECT id, lease, {self._table.now} + ?, ?, ? FROM {self._table.name} WHERE {_MINE} "
                    "ON CONFLICT (id) DO UPDATE SET lease = excluded.lease, leased_until = excluded.leased_until, "
                    "done = excluded.done, steps = excluded.steps RETURNING id",
                    *(float(lease_s), done, steps, lease.id, lease.token),
                )
            )
        )

    def finish(self, lease: Lease, *, head: str, result: bytes, bounds: JobBounds, steps: int = 0) -> bool:
        """Store the result of a job, or fail the job if the result exceeds the bounds.

        Args:
            lease: Lease of the job.
            head: Status and headers of the result, JSON.
            result: Body of the result.
            bounds: Limits of the queue.
            steps: Number of steps that were done.

        Returns:
            False if the job was cancelled or leased to another worker. Nothing is stored then.
        """

        def finish(ask: Ask) -> bool:
            self._table.expire(ask, bounds)
            _, total = self._table.total(ask)
            own = ask(f"SELECT bytes FROM {self._table.name} WHERE {_MINE}", lease.id, lease.token)
            if not own:
                return False
            size = len(result) + OVERHEAD_BYTES
            if total - own[0][0] + size > bounds.max_bytes:
                problem = _full(
                    f"the result of {len(result)} bytes does not fit in addition to other jobs, the limit is "
                    f"{bounds.max_bytes} (setting max_jobs_bytes)"
                )
                return self._table.end(ask, "failed", _MINE, lease.id, lease.token, problem=problem)
            ask(
                f"UPDATE {self._table.name} SET head = ?, result = ?, done = ?, steps = ? WHERE id = ?",
                *(head, result, steps, steps, lease.id),
            )
            ask(f"DELETE FROM {self._table.beats} WHERE id = ?", lease.id)
            return self._table.end(ask, "done", _MINE, lease.id, lease.token, size=size)

        return self._alone(finish)

    def fail(self, lease: Lease, problem: str) -> bool:
        """Mark a job as failed, with a problem document (JSON).

        Returns:
            False if the job was cancelled or leased to another worker.
        """
        return self._transaction(
            lambda ask: self._table.end(ask, "failed", _MINE, lease.id, lease.token, problem=problem), "delete"
        )

    def release(self, lease: Lease) -> None:
        """Return a job to the queue, to be started again by another worker."""
        self._transaction(
            lambda ask: ask(
                f"UPDATE {self._table.name} SET state = 'queued', lease = NULL, attempts = attempts - 1 WHERE {_MINE}",
                *(lease.id, lease.token),
            )
        )

    def job(self, job_id: str, owner: str | None = None) -> Job:
        """Return a job.

        Raises:
            JobNotFound: The job is missing, or belongs to another owner.
        """
        return self._transaction(lambda ask: self._table.find(ask, job_id, owner), "read")

    def jobs(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Return those of the jobs that exist, by id, of all owners."""
        if not job_ids:
            return {}
        marks = ", ".join("?" * len(job_ids))
        rows = self._transaction(lambda ask: ask(f"{self._table.select} WHERE id IN ({marks})", *job_ids), "read")
        return {row[0]: Job(*row) for row in rows}

    def result_size(self, job_id: str, owner: str | None = None) -> int:
        """Return the size of the result of an ended job, in bytes, without reading it; 0 for a failed job.

        Raises:
            JobNotFound: The job is missing.
            JobNotDone: The job has not ended.
        """

        def size(ask: Ask) -> int:
            self._table.find_ended(ask, job_id, owner)
            ((found,),) = ask(f"SELECT coalesce(length(result), 0) FROM {self._table.name} WHERE id = ?", job_id)
            return int(found)

        return self._transaction(size, "read")

    def result(self, job_id: str, owner: str | None = None) -> tuple[Job, str, bytes]:
        """Return an ended job, and the head (JSON) and body of its result; both are empty for a failed job.

        Raises:
            JobNotFound: The job is missing.
            JobNotDone: The job has not ended.
        """

        def result(ask: Ask) -> tuple[Job, str, bytes]:
            job = self._table.find_ended(ask, job_id, owner)
            ((head, content),) = ask(f"SELECT head, result FROM {self._table.name} WHERE id = ?", job_id)
            return job, head or "{}", bytes(content or b"")

        return self._transaction(result, "read")

    def remove(self, job_id: str, owner: str | None = None) -> None:
        """Cancel a job, or delete one that has ended.

        Raises:
            JobNotFound: The job is missing.
        """

        def remove(ask: Ask) -> None:
            self._table.find(ask, job_id, owner)
            ask(f"DELETE FROM {self._table.name} WHERE id = ?", job_id)
            ask(f"DELETE FROM {self._table.beats} WHERE id = ?", job_id)

        self._transaction(remove, "delete")

    def expire(self, bounds: JobBounds) -> None:
        """Delete expired jobs."""
        self._transaction(lambda ask: self._table.expire(ask, bounds), "delete")

    def waiting(self, kind: str) -> tuple[int, int]:
        """Return the number of queued and of running jobs of a kind."""

        def waiting(ask: Ask) -> tuple[int, int]:
            rows = ask(f"SELECT state, count(*) FROM {self._table.name} WHERE kind = ? GROUP BY state", kind)
            count_by_state: dict[str, int] = dict(rows)
            return count_by_state.get("queued", 0), count_by_state.get("running", 0)

        return self._transaction(waiting, "read")

    def call(self, *, pause_s: Callable[[int], float]) -> Call | None:
        """Return the next due webhook call, or None, and schedule its retry.

        Args:
            pause_s: Returns the seconds between an attempt, counted from 1, and the next.
        """

        def call(ask: Ask) -> Call | None:
            rows = ask(
                f"SELECT id, webhook, webhook_tries FROM {self._table.name} WHERE webhook_at <= {self._table.now} "
                f"ORDER BY webhook_at LIMIT 1 {self._table.skip_locked}"
            )
            if not rows:
                return None
            ((job_id, url, tries),) = rows
            ask(
                f"UPDATE {self._table.name} SET webhook_tries = ?, webhook_at = {self._table.now} + ? WHERE id = ?",
                *(tries + 1, float(pause_s(tries + 1)), job_id),
            )
            return Call(self._table.find(ask, job_id), url, tries + 1)

        return self._transaction(call)

    def called(self, job_id: str, state: Literal["delivered", "failed"]) -> None:
        """Record the final state of a webhook, which cancels its retry."""
        self._transaction(
            lambda ask: ask(
                f"UPDATE {self._table.name} SET webhook_at = NULL, webhook_state = ? WHERE id = ?", state, job_id
            )
        )


def _full(detail: str) -> JobsFull:
    return JobsFull(f"{detail}; DELETE /jobs/{{id}} makes room", headers={"Retry-After": "10"})


def _gave_up(attempts: int) -> JobLost:
    return JobLost(
        f"{attempts} workers started this job and ended before it was done; send less at once, or ask the operator "
        "to look at the log"
    )
