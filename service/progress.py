"""How far the request that runs here is: tiles done, of all that are known. The code that started it may look.

A thread that was started for a request (`asyncio.to_thread`) counts into the same: it gets a copy of the context.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Progress:
    """Steps that are done, and all that are known so far: files of a request are counted as they are read."""

    done: int = 0
    steps: int = 0


_PROGRESS: ContextVar[Progress | None] = ContextVar("progress", default=None)


def follow(progress: Progress) -> None:
    """Count the steps of what runs from here into `progress`."""
    _PROGRESS.set(progress)


def expect(steps: int) -> None:
    """Add steps that are to be done."""
    if (progress := _PROGRESS.get()) is not None:
        progress.steps += steps


def advance() -> None:
    """Say that a step is done."""
    if (progress := _PROGRESS.get()) is not None:
        progress.done += 1
