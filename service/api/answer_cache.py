"""A cache of answers to repeated files. Off by default."""

import asyncio
import dataclasses
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence

from service.models.model import Model
from service.tasks.answer import Answer
from service.telemetry.counters import Meters

_ROW_BYTES = 1024  # about what an entry takes beside its content
_SHORT = 2**16  # bytes that are digested in 50 microseconds: a thread would cost more

Key = tuple[Hashable, ...]


class AnswerCache:
    """A least-recently-used cache of answers, bounded in bytes.

    Args:
        max_bytes: Most bytes of all answers; 0 keeps none.
        meters: Count hits and misses.
    """

    def __init__(self, max_bytes: int, meters: Meters) -> None:
        self._max_bytes = max_bytes
        self._meters = meters
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self.bytes = 0

    async def get_or_make(
        self, make: Callable[[], Awaitable[Answer]], files: Sequence[bytes], model: Model, *parameters: Hashable
    ) -> Answer:
        """Return the cached answer, or compute and cache it.

        Args:
            make: Computes the answer.
            files: Content of the file, and of one beside it.
            model: Model that answers.
            parameters: All other parameters that the answer depends on.
        """
        if not self._max_bytes:
            return await make()
        key = await key_of(files, model, *parameters)
        answer = self.get(key)
        if answer is None:
            answer = await make()
            self.put(key, answer)
        return answer

    def get(self, key: Key) -> Answer | None:
        """Return the cached answer for `key`, or None."""
        answer = self._answers.get(key)
        if answer is None:
            self._meters.count("hourglass_cache_requests", "miss")
            return None
        self._meters.count("hourglass_cache_requests", "hit")
        self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> None:
        """Cache an answer, unless it exceeds the limit by itself. Evict others to make room."""
        size = len(answer.content) + _ROW_BYTES
        if size > self._max_bytes or key in self._answers:
            return
        self._answers[key] = dataclasses.replace(answer, value=None)  # arrays and documents are in its content
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.bytes -= len(oldest.content) + _ROW_BYTES


async def key_of(files: Sequence[bytes], model: Model, *parameters: Hashable) -> Key:
    """Return the cache key of an answer: the bytes of its files, the loaded model and all parameters.

    A version whose files are changed in place is another model object, so its old answers are not found again.
    """
    is_short = sum(map(len, files)) <= _SHORT
    digests = _digests(files) if is_short else await asyncio.to_thread(_digests, files)
    return weakref.ref(model), *digests, *parameters


def _digests(files: Sequence[bytes]) -> list[bytes]:
    return [hashlib.sha256(data).digest() for data in files]
