"""A call whose result all callers of the same time share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    """A call that runs once at a time. Everybody who asks while it runs shares the next run, so no result is stale.

    Args:
        call: The call.
    """

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[T] | None = None

    async def result(self) -> T:
        """Return the result of a run that starts from now on."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)  # one caller that leaves must not end it for the others

    async def _run(self) -> T:
        async with self._lock:
            self._next = None  # callers from now on need a newer one
            return await self._call()
