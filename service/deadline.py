"""When the request that runs here has to be answered, and when its turn is; long loops ask, and so does the queue.

A thread that was started for a request (`asyncio.to_thread`) knows its deadline: it gets a copy of the context.
"""

import math
import time
from contextvars import ContextVar

from service.errors import DeadlineExceeded

_END = ContextVar("end", default=math.inf)
_DUE = ContextVar("due", default=0.0)


def set_deadline(seconds: float) -> None:
    """Set the deadline of this request, in seconds from now."""
    _END.set(time.monotonic() + seconds)


def deadline() -> float:
    """Return the deadline of this request on the monotonic clock; infinity if there is none."""
    return _END.get()


def check_deadline(end: float | None = None) -> None:
    """Raise `DeadlineExceeded` if the deadline has passed.

    Args:
        end: From `deadline`, in a thread that works for several requests; by default that of this request.

    Raises:
        DeadlineExceeded: There is no time left, so nobody waits for a result.
    """
    if time.monotonic() > (_END.get() if end is None else end):
        raise DeadlineExceeded("the deadline of the request has passed (setting request_timeout_s)")


def set_due(moment: float) -> None:
    """Note when the work of this request would be done if nobody else had any, on the clock of the event loop."""
    _DUE.set(moment)


def due() -> float:
    """Return the due time of this request; 0 for work without a request."""
    return _DUE.get()
