"""Pages that take long are made in a thread, once for everybody who asks."""

import asyncio
import threading

from service.api.page_cache import Page, PageCache


def test_a_slow_page_is_made_once_and_not_in_the_event_loop() -> None:
    threads, source = [], object()

    def make() -> bytes:
        threads.append(threading.current_thread())
        return b"page"

    async def ask() -> list[Page]:
        pages = PageCache()
        return list(await asyncio.gather(*(pages.get_slow("/page", source, make) for _ in range(3))))

    found = asyncio.run(ask())

    assert [page.content for page in found] == [b"page"] * 3
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
