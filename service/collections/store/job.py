"""A job of the queue: its state, its lease to a worker, the call of its webhook, and the limits of all jobs."""

import secrets
from dataclasses import dataclass
from typing import Literal

from service.errors import JobNotFound, shown

State = Literal["queued", "running", "done", "failed"]


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
