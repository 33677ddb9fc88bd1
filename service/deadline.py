"""Deadline and due time of the current request, as context variables. Long loops and the queue use them.

A thread that is started for a request (`asyncio.to_thread`) gets a copy of the context, and so the same deadline.
"""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar

from service.errors import DeadlineExceeded


class Deadline:
    """Time limit of one request. It restarts whenever a step of the request is done, up to a bound.

    A busy machine slows every step down. So a request that makes progress is not ended, but one that hangs is.

    Args:
        seconds: From now, and from each step that is done.
        most_s: Bound from now for the time that steps add. The first `seconds` are granted whatever it is.
        clock: Returns the time in seconds.
    """

    __slots__ = ("_bound", "_clock", "_started", "end", "seconds")

    def __init__(self, seconds: float, *, most_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = now = clock()
        self._bound = now + most_s
        self.seconds = seconds
        self.end = now + seconds

    @property
    def passed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self.end

    def allow(self, more_s: float) -> None:
        """Give each step this much more time, from now on."""
        self.seconds += more_s
        self.end = self._clock() + self.seconds

    def renew(self) -> None:
        """Restart the time, as a step is done. A deadline that has passed stays so."""
        now = self._clock()
        if now < self.end:
            self.end = max(self.end, min(now + self.seconds, self._bound))

    def pass_now(self) -> None:
        """Let the deadline pass, so that threads which still work for the request end."""
        self.end = -math.inf

    def check(self) -> None:
        """Check that the deadline has not passed.

        Raises:
            DeadlineExceeded: It has, so the client no longer waits.
        """
        if self.is_over:
            raise DeadlineExceeded("the deadline of the request has passed (setting request_timeout_s)")


_ENDLESS = Deadline(math.inf)
_DEADLINE = ContextVar("deadline", default=_ENDLESS)
_DUE = ContextVar("due", default=0.0)


def set_deadline(deadline: Deadline) -> None:
    """Set the deadline of this request."""
    _DEADLINE.set(deadline)


def current_deadline() -> Deadline:
    """Return the deadline of this request; an endless one for work without a request."""
    return _DEADLINE.get()


def check_deadline() -> None:
    """Check that the deadline of this request has not passed.

    Raises:
        DeadlineExceeded: It has, so the client no longer waits.
    """
    _DEADLINE.get().check()


def set_due(moment: float) -> None:
    """Set the time at which this request would be done on an idle service, on the clock of the event loop."""
    _DUE.set(moment)


def due() -> float:
    """Return the due time of this request; 0 for work without a request."""
    return _DUE.get()
