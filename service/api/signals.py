"""What the parts of one worker that deal with jobs tell one another."""

import asyncio
import contextlib
from collections.abc import Iterator


class Signal:
    """Wakes a loop that looks at the queue now and then: what happens in this process need not wait for its look."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Say that something has happened."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when something has happened since the last time, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
        self._event.clear()


class Streams:
    """How many jobs are being watched."""

    def __init__(self) -> None:
        self.count = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count one for the length of a block."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
