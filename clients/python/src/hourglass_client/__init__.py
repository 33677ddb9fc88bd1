"""A client of the service: `from hourglass_client import Hourglass`. It imports nothing of the service.

    with Hourglass("http://127.0.0.1:8000") as hourglass:
        hourglass.denoise("noisy.png").save("clean.png")
        if hourglass.anomaly("part.png").p_value < 0.01: ...

`AsyncHourglass` has the same methods to await. See docs/client.md for the full reference.
"""

from hourglass_client.aio import AsyncHourglass
from hourglass_client.answers import Alias, Classification, Latent, Model, Neighbour, Picture, Region, Verdict
from hourglass_client.errors import (
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
from hourglass_client.jobs import Job
from hourglass_client.sync import Hourglass
from hourglass_client.tables import verdict_frame

__version__ = "0.1.0"

__all__ = [
    "Alias",
    "AsyncHourglass",
    "BadRequest",
    "Busy",
    "Classification",
    "ClientError",
    "Hourglass",
    "Job",
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
    "verdict_frame",
]
