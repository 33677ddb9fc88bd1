"""Sources of `hourglass watch`: a folder, a video or a bucket, behind one interface."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from hourglass_client.watch.part import Part, Stamp


class Arrival(NamedTuple):
    """A complete new image: its path below the source, with slashes, and its stamp."""

    name: str
    stamp: Stamp


class Source(Protocol):
    """A source of images, each yielded once it is complete and not yet in the history."""

    @property
    def waiting(self) -> int:
        """Number of images that have arrived and are not yet yielded."""

    def arrivals(self) -> AsyncIterator[Arrival]:
        """Yield every new image, existing ones first. End when all are judged, if the source has an end.

        Call `done` or `again` for each.
        """

    async def read(self, arrival: Arrival) -> bytes | None:
        """Return the bytes of an image, or None if it has changed or is missing."""

    def done(self, name: str) -> None:
        """Mark an image as judged; it is yielded again if it changed meanwhile."""

    def again(self, name: str) -> None:
        """Yield an incomplete image again."""

    def put(self, part: Part, target: str, *, moves: bool) -> bool:
        """Move or copy the image of a part to `TARGET/VERDICT/NAME`; with the part's id if that name is taken.

        An image that is already there, or missing from the source, is left as it is.

        Returns:
            False if the image was overwritten after the verdict; then it is left as it is.

        Raises:
            Exception: Reading or writing failed; it is worth another attempt.
        """
