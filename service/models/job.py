"""Jobs of a graph: they prepare rows of its inputs, and turn rows of its outputs into an answer."""

import asyncio
from typing import Any, NamedTuple, Protocol, TypeVar

from service.models.session import Floats
from service.telemetry.counters import Origin

Inputs = tuple[Floats, ...]
Outputs = tuple[Floats, ...]
Answer_co = TypeVar("Answer_co", covariant=True)


class Job(Protocol[Answer_co]):
    """One image, array or latent of a request."""

    @property
    def is_small(self) -> bool:
        """Whether the job is certainly small, judged by its size alone."""

    def prepare(self) -> Floats | Inputs:
        """Decode the bytes and return the graph's input, (n, ...), or inputs, each of n rows.

        Called in the worker thread.
        """

    def finish(self, outputs: Outputs) -> Answer_co:
        """Encode the answer from this job's n rows of every output. Called in the same thread."""


class Queued(NamedTuple):
    """A queued job. Any: jobs with different types of answers share a queue; `submit` restores the type."""

    job: Job[Any]
    future: asyncio.Future[Any]
    origin: Origin


def is_wanted(jobs: list[Queued]) -> bool:
    """Return whether any client still waits for one of these jobs."""
    return not all(queued.future.done() for queued in jobs)
