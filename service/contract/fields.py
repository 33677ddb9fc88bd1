"""Types of the contract's fields: names, files, finite numbers, digests. Imports pydantic only."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=_NAME)]
# One file beside the manifest: no separators, so no graph is ever read from outside its own directory.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def is_name(name: str) -> bool:
    """Return whether a name is a valid model name."""
    return re.fullmatch(_NAME, name) is not None


class Frozen(BaseModel):
    """Base class of the contract: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
