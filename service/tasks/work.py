"""What every task is to an endpoint: work that a graph's batcher does, with an answer at its end."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from service.images.inspect import ImageFile
from service.models.batcher import Batcher
from service.models.job import Job
from service.progress import advance, expect
from service.tasks.answer import Answer
from service.tasks.cost import Cost


class Work(Protocol):
    """One file of a request, or all of them, on their way to an answer."""

    async def run(self, batcher: Batcher) -> Answer:
        """Return the answer.

        Raises:
            RequestError: With what is wrong with the input.
        """


class FileWork(Work, Protocol):
    """The work on one file of a request, beside others of the same kind.

    Attributes:
        is_tiled: It holds a whole picture while its tiles run, so files of a request go one after another.
    """

    is_tiled: ClassVar[bool]

    def cost(self, files: Sequence[ImageFile], batcher: Batcher) -> Cost:
        """Return the cost of files that get the same work as this one.

        Raises:
            TooManyPixels: Together they have more pixels than one file may have.
        """


class OneJob:
    """Work that is a single job of the batcher. Work on pictures of any size is many: one a tile."""

    async def run(self: Job[Answer], batcher: Batcher) -> Answer:
        """Return the answer of this job."""
        expect(1)
        answer = await batcher.answer(self)
        advance()
        return answer
