"""The store behind threads: opened when it is first asked for, and never in the event loop's way."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.collections.store import Store, open_store
from service.errors import StoreUnavailable

T = TypeVar("T")

_AT_ONCE = 4  # threads: enough that a write, which waits for the disk, holds up no search


class StoreThreads:
    """A database for coroutines.

    Args:
        url: From the setting `collections_url`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Store | None = None
        self._opening = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, ask: Callable[[Store], T]) -> T:
        """What the database answers. Cancelling drops the question if its turn has not come.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="collections")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, ask)

    def close(self) -> None:
        """Waits for what is being written, drops the rest, and ends all connections. It can be used again."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        if self._store is not None:
            self._store.close()
        self._threads = self._store = None

    def _ask(self, ask: Callable[[Store], T]) -> T:
        if self._store is None:
            with self._opening:
                if self._store is None:
                    self._store = self._open()
        return ask(self._store)

    def _open(self) -> Store:
        try:
            return open_store(self._url)
        except ImportError as error:
            raise StoreUnavailable(
                f"the setting collections_url names a database whose package is not installed ({error.name}); "
                "pip install 'hourglass-service[postgres]'"
            ) from error
