"""What is asked of an alias and what is answered, as types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Version = Annotated[int, Field(ge=1, lt=10**9)]


class AliasBody(BaseModel):
    """What an alias is to mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[Version, Field(description="The version that answers")]
    candidate: Annotated[Version | None, Field(description="Another one, that answers a share of the pictures")] = None
    share: Annotated[
        float | None, Field(ge=0, le=1, description="Share of the pictures that the candidate answers")
    ] = None
    shadow: Annotated[
        Version | None,
        Field(description="A version that sees the pictures, too: /metrics says how much its answers differ"),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> "AliasBody":
        if (self.candidate is None) != (self.share is None):
            raise ValueError("candidate and share come together")
        if self.version in {self.candidate, self.shadow}:
            raise ValueError("candidate and shadow are other versions than version")
        return self


class AliasAnswer(BaseModel):
    """An alias."""

    model: str
    alias: str
    version: Annotated[int, Field(description="The version that answers")]
    candidate: Annotated[int | None, Field(description="The version that answers `share` of the pictures")]
    share: float
    shadow: Annotated[int | None, Field(description="The version whose answers are only compared")]
    former: Annotated[int | None, Field(description="The version that a roll back brings back")]
    updated: Annotated[str, Field(description="UTC, ISO 8601")]


class AliasesAnswer(BaseModel):
    """The aliases of a model."""

    model: str
    aliases: list[AliasAnswer]
