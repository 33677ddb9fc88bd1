"""Run database calls in threads, so that they do not block the event loop. The database is opened on first use."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from service.errors import StoreUnavailable

T = TypeVar("T")

_READERS, _WRITERS = 4, 2  # number of threads; writers wait for the disk and for one another


class Closable(Protocol):
    """A database that can be closed."""

    def close(self) -> None:
        """Close all connections."""


S = TypeVar("S", bound=Closable)


class StoreThreads(Generic[S]):
    """A database for coroutines.

    Args:
        url: URL from the setting `collections_url`.
        open_store: Opens the store or job queue at a URL.
    """

    def __init__(self, url: str, open_store: Callable[[str], S]) -> None:
        self._url = url
        self._open_store = open_store
        self._store: S | None = None
        self._opening = threading.Lock()
        self._readers: ThreadPoolExecutor | None = None
        self._writers: ThreadPoolExecutor | None = None

    async def run(self, ask: Callable[[S], T]) -> T:
        """Run a query in a thread and return its result. Cancelling drops it if it has not started.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        if self._readers is None:
            self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="collections")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask, ask)

    async def write(self, ask: Callable[[S], T]) -> T:
        """Run a write in a writer thread and return its result. Readers are not delayed.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        if self._writers is None:
            self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="collections-write")
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._ask, ask)

    def close(self) -> None:
        """Finish the writes in progress, drop the others and close all connections. The store can be used again."""
        for threads in (self._readers, self._writers):
            if threads is not None:
                threads.shutdown(cancel_futures=True)
        if self._store is not None:
            self._store.close()
        self._readers = self._writers = self._store = None

    def _ask(self, ask: Callable[[S], T]) -> T:
        if self._store is None:
            with self._opening:
                if self._store is None:
                    self._store = self._open()
        return ask(self._store)

    def _open(self) -> S:
        try:
            return self._open_store(self._url)
        except ImportError as error:
            raise StoreUnavailable(
                f"the setting collections_url names a database whose package is not installed ({error.name}); "
                "pip install 'hourglass-service[postgres]'"
            ) from error
