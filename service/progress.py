"""Progress of the current request, as a context variable: tiles done, of all tiles known so far.

A thread that is started for a request (`asyncio.to_thread`) gets a copy of the context, and counts in the same place.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from service.deadline import current_deadline


@dataclass
class Progress:
    """Steps done, and steps known so far: the steps of a file are added when it is read."""

    done: int = 0
    steps: int = 0


_PROGRESS: ContextVar[Progress | None] = ContextVar("progress", default=None)


def follow(progress: Progress) -> None:
    """Count the steps of the current context in `progress`."""
    _PROGRESS.set(progress)


def expect(steps: int) -> None:
    """Add steps to be done."""
    if (progress := _PROGRESS.get()) is not None:
        progress.steps += steps


def advance() -> None:
    """Count a step as done, and renew the deadline of the request."""
    if (progress := _PROGRESS.get()) is not None:
        progress.done += 1
    current_deadline().renew()
