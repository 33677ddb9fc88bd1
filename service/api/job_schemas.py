"""Schemas of jobs."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.api.schemas import Problem
from service.collections.store.job import Job, State


class JobProgress(BaseModel):
    """The progress of a job."""

    done: Annotated[int, Field(description="Number of tiles that are done")]
    of: Annotated[int, Field(description="Number of tiles of the files read so far; 0 before the first file")]


class JobAnswer(BaseModel):
    """A job."""

    id: str
    kind: Annotated[str, Field(description="`request` for requests with `Prefer: respond-async`")]
    state: State
    position: Annotated[int | None, Field(description="Number of jobs ahead of it; null once it has left the queue")]
    progress: JobProgress
    attempts: Annotated[int, Field(description="Number of workers that started it; more than 1 after one was lost")]
    created: str
    ended: str | None
    problem: Annotated[Problem | None, Field(description="Reason for a failure")]
    webhook: Annotated[
        Literal["waiting", "delivered", "failed"] | None, Field(description="State of its webhook, if it has one")
    ]


def job_document(job: Job) -> dict[str, Any]:  # Any: JSON
    """Return a job as a `JobAnswer`."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "position": job.position,
        "progress": {"done": job.done, "of": job.steps},
        "attempts": job.attempts,
        "created": _moment(job.created),
        "ended": None if job.ended is None else _moment(job.ended),
        "problem": None if job.problem is None else json.loads(job.problem),
        "webhook": job.webhook_state,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
