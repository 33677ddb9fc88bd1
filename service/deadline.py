"""Deadline and due time of the current request, as context variables. Long loops and the queue use them.

A thread that is started for a request (`asyncio.to_thread`) gets a copy of the context, and so the deadline.
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
    """Check that the deadline has not passed.

    Args:
        end: Result of `deadline`, for threads that work for several requests; by default that of this request.

    Raises:
        DeadlineExceeded: The deadline has passed, so the client no longer waits.
    """
    if time.monotonic() > (_END.get() if end is None else end):
        raise DeadlineExceeded("the deadline of the request has passed (setting request_timeout_s)")


def set_due(moment: float) -> None:
    """Set the time at which this request would be done on an idle service, on the clock of the event loop."""
    _DUE.set(moment)


def due() -> float:
    """Return the due time of this request; 0 for work without a request."""
    return _DUE.get()
