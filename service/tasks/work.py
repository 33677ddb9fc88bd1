"""What every task is to an endpoint: work that a graph's batcher does, with an answer at its end."""

from typing import Protocol

from service.models.batcher import Batcher, Job
from service.tasks.answer import Answer


class Work(Protocol):
    """One file of a request, or all of them, on their way to an answer."""

    async def run(self, batcher: Batcher) -> Answer:
        """Return the answer.

        Raises:
            RequestError: With what is wrong with the input.
        """


class OneJob:
    """Work that is a single job of the batcher. Work on pictures of any size is many: one a tile."""

    async def run(self: Job[Answer], batcher: Batcher) -> Answer:
        """Return the answer of this job."""
        return await batcher.answer(self)
