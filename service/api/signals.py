"""Signals between the parts of one worker that handle jobs."""

import asyncio
import contextlib


class Signal:
    """Wakes a loop that polls the queue, so that events of this process are handled at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the loop."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until `wake` is called, or was called since the last return, or the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
        self._event.clear()
