"""Schemas of trainings, for users and for workers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.schemas import StrictQuery
from service.collections.store.trainings import TrainingState, Work

_WORK = "calibrate sets a new threshold from the images marked as good; fit trains a new detector on them"


class TrainingQuery(StrictQuery):
    """Choice of the work that makes the next version."""

    work: Annotated[Work, Field(description=_WORK)]


class TrainingAnswer(BaseModel):
    """A training."""

    id: str
    model: str
    work: Annotated[Work, Field(description=_WORK)]
    state: Annotated[
        TrainingState, Field(description="ready: the version can be approved. approved: it is being published")
    ]
    created: Annotated[str, Field(description="Time of the request, UTC, ISO 8601")]
    heard: Annotated[str | None, Field(description="Time of its worker's last report, UTC, ISO 8601")]
    worker: str | None
    said: Annotated[str, Field(description="Current step")]
    share: Annotated[float | None, Field(description="Finished share of the step, in [0, 1]")]
    old_version: Annotated[int | None, Field(description="Version that was live at the start")]
    version: Annotated[int | None, Field(description="Resulting version, once it is live")]
    problem: Annotated[str | None, Field(description="Reason for a failure")]


class TrainingWithLog(TrainingAnswer):
    """A training with its log and card."""

    log: str
    card: Annotated[str | None, Field(description="Card of the new version as Markdown, once it is ready")]


class TrainingsAnswer(BaseModel):
    """The trainings of a model."""

    model: str
    workers: Annotated[list[str], Field(description="Names of the workers seen within the last 30 seconds")]
    trainings: list[TrainingAnswer]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaseBody(_Body):
    """A worker's request for work."""

    worker: Annotated[str, Field(min_length=1, max_length=100, description="Name of the worker")]


class LeaseAnswer(BaseModel):
    """A training for a worker."""

    id: str
    model: str
    work: Annotated[Literal["calibrate", "fit", "publish"], Field(description="publish: publish an approved version")]
    job: Annotated[str, Field(description="Id of the lease; reports need it with `token`")]
    token: str
    lease_s: Annotated[float, Field(description="Seconds until the lease expires, unless this worker reports")]


class LeasedBody(_Body):
    """A worker's message about a leased training."""

    job: Annotated[str, Field(max_length=100)]
    token: Annotated[str, Field(max_length=100)]


class ReportBody(LeasedBody):
    """The progress of a training."""

    said: Annotated[str, Field(max_length=200)] = ""
    share: Annotated[float | None, Field(ge=0, le=1)] = None
    lines: Annotated[str, Field(max_length=65536, description="Lines for the log, each with its line break")] = ""


class EndBody(LeasedBody):
    """The end of a training: a version to approve, a live version, or a failure."""

    card: Annotated[str | None, Field(max_length=2**18)] = None
    old_version: Annotated[int | None, Field(ge=1, lt=10**9)] = None
    version: Annotated[int | None, Field(ge=1, lt=10**9)] = None
    problem: Annotated[str | None, Field(min_length=1, max_length=4000)] = None

    @model_validator(mode="after")
    def _check_one_end(self) -> "EndBody":
        ends = (self.problem, self.version, self.card and self.old_version)
        if sum(end is not None for end in ends) != 1:
            raise ValueError("give problem, or version, or card and old_version")
        return self


class GoOnAnswer(BaseModel):
    """Whether the lease is still valid."""

    go_on: Annotated[bool, Field(description="False if the training was cancelled or leased to another worker: stop")]
