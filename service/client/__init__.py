"""A client of the service: `from service.client import Hourglass`. It imports nothing else of the service.

    with Hourglass("http://127.0.0.1:8000") as hourglass:
        hourglass.denoise("noisy.png").save("clean.png")
        if hourglass.anomaly("part.png").p_value < 0.01: ...

`AsyncHourglass` has the same methods to await. docs/client.md has all of it.
"""

from service.client.aio import AsyncHourglass
from service.client.answers import Classification, Latent, Model, Neighbour, Picture, Region, Verdict
from service.client.errors import (
    BadRequest,
    Busy,
    ClientError,
    NotAllowed,
    NotFound,
    Problem,
    ServerFault,
    TooLarge,
    TooLate,
    Unreachable,
)
from service.client.sync import Hourglass

__all__ = [
    "AsyncHourglass",
    "BadRequest",
    "Busy",
    "Classification",
    "ClientError",
    "Hourglass",
    "Latent",
    "Model",
    "Neighbour",
    "NotAllowed",
    "NotFound",
    "Picture",
    "Problem",
    "Region",
    "ServerFault",
    "TooLarge",
    "TooLate",
    "Unreachable",
    "Verdict",
]
