"""The queue of jobs: one table, the same in every database.

    queued -> running -> done | failed          cancelling deletes a job

A worker leases a job and renews the lease while it works. When a lease expires, another worker takes the job, and
results of the first one are rejected. So every job is done once, or has failed. All times are those of the database's
clock, as workers may run on several machines.

Heartbeats have a small table of their own: SQLite writes a changed row as a whole, with its payload.
"""

# ruff: noqa: S608  only constants are formatted into SQL

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeVar

from service.collections.store.transaction import Ask, Transaction
from service.errors import JobLost, JobNotDone, JobNotFound, JobsFull, RequestError, problem_bytes, shown

T = TypeVar("T")
State = Literal["queued", "running", "done", "failed"]

OVERHEAD_BYTES = 1024  # upper bound of a row and its index entries
# A column of the last heartbeat of a job's lease, or of the job before the first one
_BEAT = (
    "coalesce((SELECT beat.{column} FROM {table}_beats beat WHERE beat.id = {table}.id "
    "AND beat.lease = {table}.lease), {table}.{column})"
)
_COLUMNS = (
    "id, kind, state, owner, {done}, {steps}, attempts, created, ended, problem, webhook_state, "
    "CASE WHEN state = 'queued' THEN (SELECT count(*) FROM {table} other WHERE other.kind = {table}.kind "
    "AND other.state = 'queued' AND other.number < {table}.number) END"
)


@dataclass(frozen=True)
class Dialect:
    """SQL that differs between databases.

    Attributes:
        table: Name of the table.
        blob: Type of bytes.
        identity: Type of an auto-incremented column.
        now: Expression for the current time, seconds since 1970.
        skip_locked: Clause of a SELECT that skips rows locked by other workers.
    """

    table: str
    blob: str
    identity: str
    now: str
    skip_locked: str

    @property
    def schema(self) -> tuple[str, ...]:
        """Return the statements that create the table if it is missing."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self.table} (number {self.identity}, id TEXT NOT NULL UNIQUE, "
            "kind TEXT NOT NULL, state TEXT NOT NULL, owner TEXT, head TEXT, problem TEXT, bytes BIGINT NOT NULL, "
            "done INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0, "
            "attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL, "
            "lease TEXT, leased_until DOUBLE PRECISION, created DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION, "
            "webhook TEXT, webhook_state TEXT, webhook_tries INTEGER NOT NULL DEFAULT 0, webhook_at DOUBLE PRECISION, "
            f"payload {self.blob}, result {self.blob})",  # last: SQLite reads all of a row before a wanted column
            f"CREATE INDEX IF NOT EXISTS {self.table}_waiting ON {self.table} (kind, state, number)",
            f"CREATE INDEX IF NOT EXISTS {self.table}_webhooks ON {self.table} (webhook_at)",
            f"CREATE INDEX IF NOT EXISTS {self.table}_bytes ON {self.table} (bytes)",  # its sum is needed often
            f"CREATE TABLE IF NOT EXISTS {self.table}_beats (id TEXT NOT NULL PRIMARY KEY, lease TEXT NOT NULL, "
            "leased_until DOUBLE PRECISION NOT NULL, done INTEGER NOT NULL, steps INTEGER NOT NULL)",
        )

    def beat(self, column: str) -> str:
        """Return the expression for a column of the last heartbeat of a job."""
        return _BEAT.format(table=self.table, column=column)


@dataclass(frozen=True)
class JobBounds:
    """Limits of the queue.

    Attributes:
        max_jobs: Largest number of jobs.
        max_bytes: Largest size of all payloads and results, in bytes.
        keep_s: Seconds until an ended job and its result are deleted.
    """

    max_jobs: int
    max_bytes: int
    keep_s: float


@dataclass(frozen=True)
class Job:
    """A job: its state, progress and attempts.

    Attributes:
        id: Random id.
        kind: Kind of work, which selects the workers.
        state: State of the job.
        owner: Client that may access it; None for all clients that know its id.
        done, steps: Steps that are done, and steps known so far.
        attempts: Number of workers that have started it.
        created, ended: Times in seconds since 1970.
        problem: Problem document of a failed job, JSON.
        webhook_state: "waiting", "delivered" or "failed"; None without a webhook.
        position: Number of queued jobs of its kind ahead of it; None once it has left the queue.
    """

    id: str
    kind: str
    state: State
    owner: str | None
    done: int
    steps: int
    attempts: int
    created: float
    ended: float | None
    problem: str | None
    webhook_state: str | None
    position: int | None

    @property
    def has_ended(self) -> bool:
        """Whether the job is done or has failed."""
        return self.state in {"done", "failed"}

    def is_for(self, owner: str | None) -> bool:
        """Return whether a client may access the job."""
        return self.owner is None or owner is None or self.owner == owner


@dataclass(frozen=True)
class Lease:
    """A job leased to a worker. `token` identifies the lease, and `attempt` counts from 1."""

    id: str
    token: str
    kind: str
    payload: bytes
    attempt: int


@dataclass(frozen=True)
class Call:
    """A due call of a webhook. `attempt` counts from 1."""

    job: Job
    url: str
    attempt: int


def new_id() -> str:
    """Return a random id that cannot be guessed."""
    return secrets.token_urlsafe(16)


def no_job(job_id: str) -> JobNotFound:
    """Return the error for a job that is missing, or belongs to another owner."""
    return JobNotFound(f"no job {shown(job_id)}; ended jobs are deleted after job_keep_s")


class JobQueue:
    """The table of jobs. Every method is one transaction, and blocks.

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
        self._now = dialect.now
        self._skip = dialect.skip_locked
        self._table = dialect.table
        self._beats = f"{dialect.table}_beats"
        self._done, self._steps, self._leased_until = map(dialect.beat, ("done", "steps", "leased_until"))
        columns = _COLUMNS.format(table=dialect.table, done=self._done, steps=self._steps)
        self._select = f"SELECT {columns} FROM {dialect.table}"
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
            self._expire(ask, bounds)
            count, total = self._total(ask)
            if count >= bounds.max_jobs:
                raise _full(
                    f"{count} jobs are stored, the limit is {bounds.max_jobs} (setting max_jobs)",
                )
            if total + size > bounds.max_bytes:
                raise _full(
                    f"jobs take {total} bytes and {size} more do not fit, the limit is {bounds.max_bytes} (setting "
                    "max_jobs_bytes)"
                )
            ask(
                f"INSERT INTO {self._table} (id, kind, state, owner, payload, bytes, max_attempts, created, webhook, "
                f"webhook_state) VALUES (?, ?, 'queued', ?, ?, ?, ?, {self._now}, ?, ?)",
                *(job_id, kind, owner, payload, size, max_attempts, webhook, webhook and "waiting"),
            )
            return self._find(ask, job_id)

        return self._alone(submit)

    def lease(self, kind: str, *, lease_s: float) -> Lease | None:
        """Lease the oldest job that is queued or whose lease has expired; return None if there is none."""

        def lease(ask: Ask) -> Lease | None:
            while rows := ask(
                f"SELECT id, payload, attempts, max_attempts FROM {self._table} WHERE kind = ? AND (state = 'queued' "
                f"OR (state = 'running' AND {self._leased_until} <= {self._now})) ORDER BY number LIMIT 1 {self._skip}",
                kind,
            ):
                ((job_id, payload, attempts, most),) = rows
                if attempts < most:
                    token = secrets.token_hex(8)
                    ask(
                        f"UPDATE {self._table} SET state = 'running', lease = ?, attempts = attempts + 1, done = 0, "
                        f"steps = 0, leased_until = {self._now} + ? WHERE id = ?",
                        *(token, float(lease_s), job_id),
                    )
                    return Lease(job_id, token, kind, bytes(payload), attempts + 1)
                self._end(ask, "failed", "id = ?", job_id, problem=_gave_up(attempts))
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
                    f"INSERT INTO {self._beats} (id, lease, leased_until, done, steps) "
                    f"SELECT id, lease, {self._now} + ?, ?, ? FROM {self._table} WHERE {_MINE} "
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
            self._expire(ask, bounds)
            _, total = self._total(ask)
            own = ask(f"SELECT bytes FROM {self._table} WHERE {_MINE}", lease.id, lease.token)
            if not own:
                return False
            size = len(result) + OVERHEAD_BYTES
            if total - own[0][0] + size > bounds.max_bytes:
                problem = _full(
                    f"the result of {len(result)} bytes does not fit in addition to other jobs, the limit is "
                    f"{bounds.max_bytes} (setting max_jobs_bytes)"
                )
                return self._end(ask, "failed", _MINE, lease.id, lease.token, problem=problem)
            ask(
                f"UPDATE {self._table} SET head = ?, result = ?, done = ?, steps = ? WHERE id = ?",
                head,
                result,
                steps,
                steps,
                lease.id,
            )
            ask(f"DELETE FROM {self._beats} WHERE id = ?", lease.id)
            return self._end(ask, "done", _MINE, lease.id, lease.token, size=size)

        return self._alone(finish)

    def fail(self, lease: Lease, problem: str) -> bool:
        """Mark a job as failed, with a problem document (JSON).

        Returns:
            False if the job was cancelled or leased to another worker.
        """
        return self._transaction(
            lambda ask: self._end(ask, "failed", _MINE, lease.id, lease.token, problem=problem), "delete"
        )

    def release(self, lease: Lease) -> None:
        """Return a job to the queue, to be started again by another worker."""
        self._transaction(
            lambda ask: ask(
                f"UPDATE {self._table} SET state = 'queued', lease = NULL, attempts = attempts - 1 WHERE {_MINE}",
                *(lease.id, lease.token),
            )
        )

    def job(self, job_id: str, owner: str | None = None) -> Job:
        """Return a job.

        Raises:
            JobNotFound: The job is missing, or belongs to another owner.
        """
        return self._transaction(lambda ask: self._find(ask, job_id, owner), "read")

    def jobs(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Return those of the jobs that exist, by id, of all owners."""
        if not job_ids:
            return {}
        marks = ", ".join("?" * len(job_ids))
        rows = self._transaction(lambda ask: ask(f"{self._select} WHERE id IN ({marks})", *job_ids), "read")
        return {row[0]: Job(*row) for row in rows}

    def result_size(self, job_id: str, owner: str | None = None) -> int:
        """Return the size of the result of an ended job, in bytes, without reading it; 0 for a failed job.

        Raises:
            JobNotFound: The job is missing.
            JobNotDone: The job has not ended.
        """

        def size(ask: Ask) -> int:
            self._find_ended(ask, job_id, owner)
            ((found,),) = ask(f"SELECT coalesce(length(result), 0) FROM {self._table} WHERE id = ?", job_id)
            return int(found)

        return self._transaction(size, "read")

    def result(self, job_id: str, owner: str | None = None) -> tuple[Job, str, bytes]:
        """Return an ended job, and the head (JSON) and body of its result; both are empty for a failed job.

        Raises:
            JobNotFound: The job is missing.
            JobNotDone: The job has not ended.
        """

        def result(ask: Ask) -> tuple[Job, str, bytes]:
            job = self._find_ended(ask, job_id, owner)
            ((head, content),) = ask(f"SELECT head, result FROM {self._table} WHERE id = ?", job_id)
            return job, head or "{}", bytes(content or b"")

        return self._transaction(result, "read")

    def remove(self, job_id: str, owner: str | None = None) -> None:
        """Cancel a job, or delete one that has ended.

        Raises:
            JobNotFound: The job is missing.
        """

        def remove(ask: Ask) -> None:
            self._find(ask, job_id, owner)
            ask(f"DELETE FROM {self._table} WHERE id = ?", job_id)
            ask(f"DELETE FROM {self._beats} WHERE id = ?", job_id)

        self._transaction(remove, "delete")

    def expire(self, bounds: JobBounds) -> None:
        """Delete expired jobs."""
        self._transaction(lambda ask: self._expire(ask, bounds), "delete")

    def waiting(self, kind: str) -> tuple[int, int]:
        """Return the number of queued and of running jobs of a kind."""

        def waiting(ask: Ask) -> tuple[int, int]:
            rows = ask(f"SELECT state, count(*) FROM {self._table} WHERE kind = ? GROUP BY state", kind)
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
                f"SELECT id, webhook, webhook_tries FROM {self._table} WHERE webhook_at <= {self._now} "
                f"ORDER BY webhook_at LIMIT 1 {self._skip}"
            )
            if not rows:
                return None
            ((job_id, url, tries),) = rows
            ask(
                f"UPDATE {self._table} SET webhook_tries = ?, webhook_at = {self._now} + ? WHERE id = ?",
                *(tries + 1, float(pause_s(tries + 1)), job_id),
            )
            return Call(self._find(ask, job_id), url, tries + 1)

        return self._transaction(call)

    def called(self, job_id: str, state: Literal["delivered", "failed"]) -> None:
        """Record the final state of a webhook, which cancels its retry."""
        self._transaction(
            lambda ask: ask(
                f"UPDATE {self._table} SET webhook_at = NULL, webhook_state = ? WHERE id = ?", state, job_id
            )
        )

    def _find(self, ask: Ask, job_id: str, owner: str | None = None) -> Job:
        rows = ask(f"{self._select} WHERE id = ?", job_id)
        job = Job(*rows[0]) if rows else None
        if job is None or not job.is_for(owner):
            raise no_job(job_id)
        return job

    def _find_ended(self, ask: Ask, job_id: str, owner: str | None) -> Job:
        job = self._find(ask, job_id, owner)
        if not job.has_ended:
            raise JobNotDone(
                f"job {job_id!r} is {job.state}, {job.done} of {job.steps} steps are done; "
                "retry later, or follow its events",
                headers={"Retry-After": "1"},
            )
        return job

    def _end(
        self, ask: Ask, state: State, where: str, *values: str, problem: RequestError | str | None = None, size: int = 0
    ) -> bool:
        text = problem_bytes(problem.problem()).decode() if isinstance(problem, RequestError) else problem
        rows = ask(
            f"UPDATE {self._table} SET state = ?, ended = {self._now}, problem = ?, payload = NULL, lease = NULL, "
            f"done = {self._done}, steps = {self._steps}, "
            f"bytes = ?, webhook_at = CASE WHEN webhook IS NULL THEN NULL ELSE {self._now} END WHERE {where} "
            "RETURNING id",
            *(state, text, size or OVERHEAD_BYTES + len(text or ""), *values),
        )
        for (job_id,) in rows:
            ask(f"DELETE FROM {self._beats} WHERE id = ?", job_id)
        return bool(rows)

    def _expire(self, ask: Ask, bounds: JobBounds) -> None:
        ask(f"DELETE FROM {self._table} WHERE ended <= {self._now} - ?", float(bounds.keep_s))

    def _total(self, ask: Ask) -> tuple[int, int]:
        ((count, total),) = ask(f"SELECT count(*), coalesce(sum(bytes), 0) FROM {self._table}")
        return int(count), int(total)


_MINE = "id = ? AND lease = ? AND state = 'running'"


def _full(detail: str) -> JobsFull:
    return JobsFull(f"{detail}; DELETE /jobs/{{id}} makes room", headers={"Retry-After": "10"})


def _gave_up(attempts: int) -> JobLost:
    return JobLost(
        f"{attempts} workers started this job and ended before it was done; send less at once, or ask the operator "
        "to look at the log"
    )
