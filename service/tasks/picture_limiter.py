"""Bound how many pictures are decoded and held at a time."""

import asyncio

from service.images.header import Header
from service.images.tiles import UNTILED_PIXELS

_LARGE_AT_ONCE, _SMALL_AT_ONCE = 2, 16


class PictureLimiter:
    """Places for decoded pictures: two large ones, so that their tiles can share a batch, and some small.

    A queue full of requests holds their files; their pixels would be a hundred times that.
    """

    def __init__(self) -> None:
        self._large, self._small = asyncio.Semaphore(_LARGE_AT_ONCE), asyncio.Semaphore(_SMALL_AT_ONCE)

    def place_for(self, header: Header) -> asyncio.Semaphore:
        """Return what to hold while a file is worked on: small pictures do not wait for large ones."""
        if header.kind is None:
            return self._small  # it will be refused
        return self._large if header.pixels is None else self.place_for_pixels(header.pixels)

    def place_for_pixels(self, pixels: int) -> asyncio.Semaphore:
        """Return the same for a picture of so many pixels."""
        return self._small if pixels <= UNTILED_PIXELS else self._large
