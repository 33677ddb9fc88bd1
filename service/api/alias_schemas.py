"""Schemas of aliases."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Version = Annotated[int, Field(ge=1, lt=10**9)]


class AliasBody(BaseModel):
    """The versions of an alias."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[Version, Field(description="Version that answers")]
    candidate: Annotated[Version | None, Field(description="Version that answers a share of the requests")] = None
    share: Annotated[
        float | None, Field(ge=0, le=1, description="Share of the requests that the candidate answers")
    ] = None
    shadow: Annotated[
        Version | None,
        Field(description="Version that runs on the same images for comparison; `/metrics` reports the differences"),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> "AliasBody":
        if (self.candidate is None) != (self.share is None):
            raise ValueError("candidate and share must be given together")
        if self.version in {self.candidate, self.shadow}:
            raise ValueError("candidate and shadow must differ from version")
        return self


class AliasAnswer(BaseModel):
    """An alias."""

    model: str
    alias: str
    version: Annotated[int, Field(description="Version that answers")]
    candidate: Annotated[int | None, Field(description="Version that answers `share` of the requests")]
    share: float
    shadow: Annotated[int | None, Field(description="Version whose answers are only compared")]
    former: Annotated[int | None, Field(description="Version to which a rollback returns")]
    updated: Annotated[str, Field(description="Time of the last change, UTC, ISO 8601")]


class AliasesAnswer(BaseModel):
    """The aliases of a model."""

    model: str
    aliases: list[AliasAnswer]
