"""Many files at a time, answered in the order of the files: once with threads, once with asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from hourglass_client.errors import ClientError

T = TypeVar("T")
Failure = ClientError | OSError
_AHEAD = 2  # files asked for or answered and not yet taken, per request at a time: one slow file idles nobody


def ask_each(ask: Callable[[Path], T], files: Iterable[Path], at_once: int) -> Iterator[tuple[Path, T | Failure]]:
    """Yield every file with its answer or error, in the order of the files, with `at_once` requests at a time."""

    def outcome(file: Path) -> T | Failure:
        try:
            return ask(file)
        except (ClientError, OSError) as error:
            return error

    remaining = iter(files)
    threads = ThreadPoolExecutor(at_once)
    try:
        waiting: deque[tuple[Path, Future[T | Failure]]] = deque()
        for file in islice(remaining, _AHEAD * at_once):
            waiting.append((file, threads.submit(outcome, file)))
        while waiting:
            file, answer = waiting.popleft()
            yield file, answer.result()
            waiting.extend((file, threads.submit(outcome, file)) for file in islice(remaining, 1))
    finally:  # who stops listening does not wait for what has not begun
        threads.shutdown(cancel_futures=True)


async def ask_each_async(
    ask: Callable[[Path], Awaitable[T]], files: Iterable[Path], at_once: int
) -> AsyncIterator[tuple[Path, T | Failure]]:
    """Yield every file with its answer or error, in the order of the files, with `at_once` requests at a time."""
    turn = asyncio.Semaphore(at_once)

    async def outcome(file: Path) -> T | Failure:
        async with turn:
            try:
                return await ask(file)
            except (ClientError, OSError) as error:
                return error

    remaining = iter(files)
    waiting: deque[tuple[Path, asyncio.Task[T | Failure]]] = deque()
    try:
        for file in islice(remaining, _AHEAD * at_once):
            waiting.append((file, asyncio.create_task(outcome(file))))
        while waiting:
            file, answer = waiting[0]
            result = await answer
            waiting.popleft()
            yield file, result
            waiting.extend((file, asyncio.create_task(outcome(file))) for file in islice(remaining, 1))
    finally:
        for _, answer in waiting:
            answer.cancel()
