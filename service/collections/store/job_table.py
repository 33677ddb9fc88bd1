"""The table of jobs, the same in every database, and the steps that several transactions share.

Heartbeats have a small table of their own: SQLite writes a changed row as a whole, with its payload.
"""

# ruff: noqa: S608  only constants are formatted into SQL

from dataclasses import dataclass

from service.collections.store.job import Job, JobBounds, State, no_job
from service.collections.store.transaction import Ask
from service.errors import JobNotDone, RequestError, problem_bytes

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


class JobTable:
    """Statements on the table of jobs. Each runs in the transaction of its caller.

    Args:
        dialect: SQL of the database.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.name, self.beats = dialect.table, f"{dialect.table}_beats"
        self.now, self.skip_locked = dialect.now, dialect.skip_locked
        self.done, self.steps, self.leased_until = map(dialect.beat, ("done", "steps", "leased_until"))
        columns = _COLUMNS.format(table=dialect.table, done=self.done, steps=self.steps)
        self.select = f"SELECT {columns} FROM {dialect.table}"

    def find(self, ask: Ask, job_id: str, owner: str | None = None) -> Job:
        """Return a job.

        Raises:
            JobNotFound: The job is missing, or belongs to another owner.
        """
        rows = ask(f"{self.select} WHERE id = ?", job_id)
        job = Job(*rows[0]) if rows else None
        if job is None or not job.is_for(owner):
            raise no_job(job_id)
        return job

    def find_ended(self, ask: Ask, job_id: str, owner: str | None) -> Job:
        """Return a job that has ended.

        Raises:
            JobNotFound: The job is missing, or belongs to another owner.
            JobNotDone: The job has not ended.
        """
        job = self.find(ask, job_id, owner)
        if not job.has_ended:
            raise JobNotDone(
                f"job {job_id!r} is {job.state}, {job.done} of {job.steps} steps are done; "
                "retry later, or follow its events",
                headers={"Retry-After": "1"},
            )
        return job

    def end(
        self, ask: Ask, state: State, where: str, *values: str, problem: RequestError | str | None = None, size: int = 0
    ) -> bool:
        """End the jobs that a condition selects, with a problem if there is one, and return whether there was any.

        Args:
            ask: Runs a statement of the transaction.
            state: State after the end.
            where: Condition, with question marks for `values`.
            values: Values of the condition.
            problem: Problem of a failed job, or its document as JSON.
            size: Bytes that the job takes from now on; by default those of a row and the problem.
        """
        text = problem_bytes(problem.problem()).decode() if isinstance(problem, RequestError) else problem
        rows = ask(
            f"UPDATE {self.name} SET state = ?, ended = {self.now}, problem = ?, payload = NULL, lease = NULL, "
            f"done = {self.done}, steps = {self.steps}, "
            f"bytes = ?, webhook_at = CASE WHEN webhook IS NULL THEN NULL ELSE {self.now} END WHERE {where} "
            "RETURNING id",
            *(state, text, size or OVERHEAD_BYTES + len(text or ""), *values),
        )
        for (job_id,) in rows:
            ask(f"DELETE FROM {self.beats} WHERE id = ?", job_id)
        return bool(rows)

    def expire(self, ask: Ask, bounds: JobBounds) -> None:
        """Delete jobs that ended more than `bounds.keep_s` ago."""
        ask(f"DELETE FROM {self.name} WHERE ended <= {self.now} - ?", float(bounds.keep_s))

    def total(self, ask: Ask) -> tuple[int, int]:
        """Return the number of jobs and the bytes that they take."""
        ((count, total),) = ask(f"SELECT count(*), coalesce(sum(bytes), 0) FROM {self.name}")
        return int(count), int(total)
