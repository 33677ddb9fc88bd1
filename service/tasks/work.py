"""The interface of tasks to endpoints: work for the batcher of a graph, which results in an answer."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from service.images.inspect import ImageFile
from service.models.batcher import Batcher
from service.models.job import Job
from service.progress import advance, expect
from service.tasks.answer import Answer
from service.tasks.cost import Cost


class Work(Protocol):
    """The work on one file of a request, or on all of them."""

    async def run(self, batcher: Batcher) -> Answer:
        """Do the work and return the answer.

        Raises:
            RequestError: The input is at fault.
        """


class FileWork(Work, Protocol):
    """The work on one file of a request.

    Attributes:
        is_tiled: Whether it holds a whole image while its tiles run. Files of a request then run one after another.
    """

    is_tiled: ClassVar[bool]

    def cost(self, files: Sequence[ImageFile], batcher: Batcher) -> Cost:
        """Return the cost of files with the same options as this one.

        Raises:
            TooManyPixels: The files together exceed `max_pixels`.
        """


class OneJob:
    """Base of work that is a single job. Work on images of any size has one job per tile."""

    async def run(self: Job[Answer], batcher: Batcher) -> Answer:
        """Run this job and return its answer."""
        expect(1)
        answer = await batcher.answer(self)
        advance()
        return answer
