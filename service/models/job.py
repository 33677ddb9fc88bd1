"""What a graph works on: jobs, which become rows of its inputs and make an answer of its outputs."""

import asyncio
from typing import Any, NamedTuple, Protocol, TypeVar

from service.models.session import Floats
from service.telemetry.counters import Origin

Inputs = tuple[Floats, ...]
Outputs = tuple[Floats, ...]
Answer_co = TypeVar("Answer_co", covariant=True)


class Job(Protocol[Answer_co]):
    """One image, array or latent of a request: bytes to rows, and the rows' results to an answer."""

    @property
    def is_small(self) -> bool:
        """Whether the job is certainly small, judged by its size alone."""

    def prepare(self) -> Floats | Inputs:
        """Return the graph's input, (n, ...), or its inputs, all of n rows.

        Decoding happens here, in the worker thread.
        """

    def finish(self, outputs: Outputs) -> Answer_co:
        """Return the answer, made from this job's n rows of every output. Encoding happens here, in the same thread."""


class Queued(NamedTuple):
    """A queued job. Any: jobs of every kind of answer share a queue, which gives each caller its type back."""

    job: Job[Any]
    future: asyncio.Future[Any]
    origin: Origin


def is_wanted(jobs: list[Queued]) -> bool:
    """Return whether any client still waits for one of these jobs."""
    return not all(queued.future.done() for queued in jobs)
