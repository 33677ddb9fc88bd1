"""What is asked of a training, and what its worker says, as types."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.schemas import StrictQuery
from service.collections.store.trainings import TrainingState, Work

_WORK = "calibrate sets the threshold anew by the pictures that people called fine; fit learns anew from them"


class TrainingQuery(StrictQuery):
    """Which version is to be made."""

    work: Annotated[Work, Field(description=_WORK)]


class TrainingAnswer(BaseModel):
    """A training."""

    id: str
    model: str
    work: Annotated[Work, Field(description=_WORK)]
    state: Annotated[
        TrainingState, Field(description="ready: the version waits to be approved. approved: it is being published")
    ]
    created: Annotated[str, Field(description="UTC, ISO 8601")]
    heard: Annotated[str | None, Field(description="When its worker last said something")]
    worker: str | None
    said: Annotated[str, Field(description="What it is doing")]
    share: Annotated[float | None, Field(description="How much of that is done, in [0, 1]")]
    old_version: Annotated[int | None, Field(description="The version that it began with")]
    version: Annotated[int | None, Field(description="The one that it made, once that is live")]
    problem: Annotated[str | None, Field(description="Why it failed")]


class TrainingWithLog(TrainingAnswer):
    """A training with what it left to read."""

    log: str
    card: Annotated[str | None, Field(description="Of the new version, as Markdown, once it is ready")]


class TrainingsAnswer(BaseModel):
    """The trainings of a model."""

    model: str
    workers: Annotated[list[str], Field(description="Workers that were there within the last 30 seconds")]
    trainings: list[TrainingAnswer]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaseBody(_Body):
    """A worker asks for work."""

    worker: Annotated[str, Field(min_length=1, max_length=100, description="Its name")]


class LeaseAnswer(BaseModel):
    """A training for a worker."""

    id: str
    model: str
    work: Annotated[Literal["calibrate", "fit", "publish"], Field(description="publish: it was approved")]
    job: Annotated[str, Field(description="With `token` it proves whose the training is")]
    token: str
    lease_s: Annotated[float, Field(description="Seconds until another worker gets it, unless this one reports")]


class LeasedBody(_Body):
    """A worker says something of a training that it has taken."""

    job: Annotated[str, Field(max_length=100)]
    token: Annotated[str, Field(max_length=100)]


class ReportBody(LeasedBody):
    """How far a training is."""

    said: Annotated[str, Field(max_length=200)] = ""
    share: Annotated[float | None, Field(ge=0, le=1)] = None
    lines: Annotated[str, Field(max_length=65536, description="For the log, each with its line break")] = ""


class EndBody(LeasedBody):
    """How a training ended: with a version to approve, with a live one, or not at all."""

    card: Annotated[str | None, Field(max_length=2**18)] = None
    old_version: Annotated[int | None, Field(ge=1, lt=10**9)] = None
    version: Annotated[int | None, Field(ge=1, lt=10**9)] = None
    problem: Annotated[str | None, Field(min_length=1, max_length=4000)] = None

    @model_validator(mode="after")
    def _check_one_end(self) -> "EndBody":
        ends = (self.problem, self.version, self.card and self.old_version)
        if sum(end is not None for end in ends) != 1:
            raise ValueError("it ends with problem, or version, or card and old_version")
        return self


class GoOnAnswer(BaseModel):
    """Whether the training still is this worker's."""

    go_on: Annotated[bool, Field(description="False: it was cancelled, or another worker has it; stop")]
