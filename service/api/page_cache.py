"""Pages that are built once per source, with their ETag."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from service.http.etag import tag_of

_MOST = 1000  # pages; old versions of models come and go


@dataclass(frozen=True)
class Page:
    """The bytes of a page, and their ETag."""

    content: bytes
    tag: str


class PageCache:
    """Pages by name, each as long as its source is the same object."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[object, Page]] = {}
        self._lock = asyncio.Lock()

    def find(self, name: str, source: object) -> Page | None:
        """Return the page of that name, if it was made of this."""
        found = self._found.get(name)
        return found[1] if found is not None and found[0] is source else None

    def get(self, name: str, source: object, make: Callable[[], bytes]) -> Page:
        """Return the page of that name; rebuild it if its source has changed."""
        if (found := self.find(name, source)) is not None:
            return found
        content = make()
        page = Page(content, tag_of(content))
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[name] = source, page
        return page

    async def get_slow(self, name: str, source: object, make: Callable[[], bytes]) -> Page:
        """Return a page as `get` does, but make a new one in a thread, since that takes long, and once for all."""
        if (found := self.find(name, source)) is not None:
            return found
        async with self._lock:
            return await asyncio.to_thread(self.get, name, source, make)
