"""What is answered about jobs, as types."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.api.schemas import Problem
from service.collections.store.jobs import Job, State


class JobProgress(BaseModel):
    """How far a job is."""

    done: int
    of: Annotated[int, Field(description="Tiles of all files that have been read so far; 0 before the first")]


class JobAnswer(BaseModel):
    """What is known of a job."""

    id: str
    kind: Annotated[str, Field(description="`request` if it was sent with Prefer: respond-async")]
    state: State
    position: Annotated[int | None, Field(description="Number of jobs before it; null once it has left the queue")]
    progress: JobProgress
    attempts: Annotated[int, Field(description="Number of workers that started it; more than 1 after one was lost")]
    created: str
    ended: str | None
    problem: Annotated[Problem | None, Field(description="The reason, if it has failed")]
    webhook: Annotated[
        Literal["waiting", "delivered", "failed"] | None, Field(description="State of its webhook, if it has one")
    ]


def job_document(job: Job) -> dict[str, Any]:  # Any: JSON
    """Return a job as `JobAnswer` has it."""
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
