"""Bound how many pictures are decoded and held at a time."""

import asyncio

from service.errors import RequestError
from service.images.inspect import inspect
from service.images.npy import NPY_MAGIC
from service.images.tiles import UNTILED_PIXELS
from service.limits import InputLimits

_LARGE_AT_ONCE, _SMALL_AT_ONCE = 2, 16


class PictureLimiter:
    """How many pictures are decoded and held at a time: two large ones, so that their tiles may meet, and some small.

    A queue full of requests holds their files; their pixels would be a hundred times that.
    """

    def __init__(self) -> None:
        self._large, self._small = asyncio.Semaphore(_LARGE_AT_ONCE), asyncio.Semaphore(_SMALL_AT_ONCE)

    def turn_of(self, data: bytes, limits: InputLimits) -> asyncio.Semaphore:
        """To be held while a file is worked on: small pictures, by their headers, do not wait for large ones."""
        if data.startswith(NPY_MAGIC):
            return self._small if len(data) <= UNTILED_PIXELS else self._large
        try:
            outline = inspect(data, max_pixels=limits.max_pixels, max_frames=limits.max_frames)
        except RequestError:
            return self._small  # it will be refused
        return self._large if outline.width is None else self.turn(outline.width * (outline.height or 0))

    def turn(self, pixels: int) -> asyncio.Semaphore:
        """The same for a picture of so many pixels."""
        return self._small if pixels <= UNTILED_PIXELS else self._large
